// The server's nodes: one of every built-in type, arrays and matrices of them, structures, enumerations, analog items.
"use strict";
const { Variant, DataType, VariantArrayType } = require("node-opcua-variant");
const { StatusCodes } = require("node-opcua-status-code");
const { LocalizedText, QualifiedName } = require("node-opcua-data-model");
const { NodeId, ExpandedNodeId, NodeIdType, resolveNodeId } = require("node-opcua-nodeid");
const { standardUnits } = require("node-opcua-data-access");

const STRUCTURE = "i=884"; // Range, a structure that every server knows
const [MODE, ALARM, MOTOR, STATION, RESULT] = [3001, 3003, 3010, 3020, 3030]; // plant.xml

function scalars() {
    return {
        Boolean: [true, false],
        SByte: [-5, 127],
        Byte: [200, 0],
        Int16: [-30000, 30000],
        UInt16: [60000, 0],
        Int32: [-(2 ** 31), 2 ** 31 - 1],
        UInt32: [2 ** 32 - 1, 0],
        Int64: [[0x80000000, 0], [0, 1]], // the smallest, as two halves
        UInt64: [[0xffffffff, 0xffffffff], [0, 1]],
        Float: [1.5, -0.25],
        Double: [20.1, -1e300],
        String: ["温度", ""],
        DateTime: [new Date(Date.UTC(2026, 2, 1, 8, 30, 0, 250)), new Date(Date.UTC(1999, 11, 31))],
        Guid: ["12345678-9ABC-DEF0-1234-56789ABCDEF0", "00000000-0000-0000-0000-000000000001"],
        ByteString: [Buffer.from([0, 255]), Buffer.from([1])],
        XmlElement: ["<a/>", "<b>2</b>"],
        NodeId: [new NodeId(NodeIdType.STRING, "x", 2), new NodeId(NodeIdType.NUMERIC, 7, 0)],
        // Without namespace URI and server index: this library loses them itself on the way to a monitored item.
        ExpandedNodeId: [new ExpandedNodeId(NodeIdType.NUMERIC, 7, 1, null, 0), new ExpandedNodeId(NodeIdType.STRING, "y", 2, null, 0)],
        StatusCode: [StatusCodes.BadTimeout, StatusCodes.Good],
        QualifiedName: [new QualifiedName({ namespaceIndex: 1, name: "q" }), new QualifiedName({ name: "r" })],
        LocalizedText: [new LocalizedText({ locale: "en", text: "running" }), new LocalizedText({ text: "läuft" })],
    };
}

// [name, data type, variant] of every node whose value has a type of its own.
function values(addressSpace, index) {
    const made = [];
    const scalar = (name, type, value, of = type) => made.push([name, of, { dataType: DataType[type], arrayType: VariantArrayType.Scalar, value }]);
    const array = (name, type, value, of = type) => made.push([name, of, { dataType: DataType[type], arrayType: VariantArrayType.Array, value }]);
    const matrix = (name, type, dimensions, value) => made.push([name, type, { dataType: DataType[type], arrayType: VariantArrayType.Matrix, dimensions, value }]);
    const construct = (type, fields) => addressSpace.constructExtensionObject(addressSpace.findDataType(resolveNodeId(type)), fields);
    const own = (number) => `ns=${index};i=${number}`;

    for (const [type, [first, second]] of Object.entries(scalars())) {
        scalar(type, type, first);
        array(`${type}Array`, type, [first, second]);
        matrix(`${type}Matrix`, type, [2, 2], [first, second, second, first]);
    }
    scalar("ExtensionObject", "ExtensionObject", construct(STRUCTURE, { low: 1, high: 9 }), STRUCTURE);
    array("ExtensionObjectArray", "ExtensionObject", [construct(STRUCTURE, { low: 1, high: 9 }), construct(STRUCTURE, { low: 2, high: 3 })], STRUCTURE);
    array("VariantArray", "Variant", [
        new Variant({ dataType: DataType.Int32, value: 1 }), new Variant({ dataType: DataType.String, value: "two" }),
        new Variant({ dataType: DataType.Double, arrayType: VariantArrayType.Array, value: [3, 4.5] }),
    ], "BaseDataType");
    matrix("Matrix", "Int32", [2, 2], [1, 2, 3, 4]);
    matrix("Cube", "Int32", [2, 1, 3], [1, 2, 3, 4, 5, 6]);

    scalar("NullString", "String", null);
    scalar("EmptyString", "String", "");
    scalar("NullByteString", "ByteString", null);
    array("EmptyArray", "Double", []);
    for (const [name, type] of [["NotANumber", "Double"], ["NotANumberFloat", "Float"]]) scalar(name, type, Number.NaN);
    array("Infinities", "Double", [Infinity, -Infinity, -0]);

    const motor = { speed: 1450.5, mode: 1, name: "M1", currents: [1.5, 2.5], since: new Date(Date.UTC(2026, 0, 2)) };
    scalar("Mode", "Int32", 1, own(MODE));
    scalar("Alarm", "Int32", -10, own(ALARM));
    scalar("Motor", "ExtensionObject", construct(own(MOTOR), motor), own(MOTOR));
    scalar("Station", "ExtensionObject", construct(own(STATION), { motors: [motor, { ...motor, name: null, currents: [] }], limit: 5 }), own(STATION));
    scalar("Number", "ExtensionObject", construct(own(RESULT), { number: 2.5 }), own(RESULT));
    scalar("Text", "ExtensionObject", construct(own(RESULT), { text: "ok" }), own(RESULT));
    return made;
}

function addAnalog(namespace, folder) {
    return namespace.addAnalogDataItem({
        organizedBy: folder,
        browseName: "Level",
        nodeId: "s=Level",
        dataType: "Double",
        engineeringUnitsRange: { low: 0, high: 100 },
        instrumentRange: { low: -10, high: 110 },
        engineeringUnits: standardUnits.degree_celsius,
    });
}

// Numbers with texts of their own: EnumStrings, EnumValues, TrueState and FalseState.
function addDiscrete(namespace, folder) {
    const place = (name) => ({ organizedBy: folder, browseName: name, nodeId: `s=${name}` });
    namespace.addMultiStateDiscrete({ ...place("Valve"), enumStrings: ["shut", "moving", "open"], value: 1 });
    const enumValues = [{ displayName: "fault", value: -1 }, { displayName: "run", value: 9 }];
    namespace.addMultiStateValueDiscrete({ ...place("Drive"), enumValues, value: 9 });
    namespace.addTwoStateDiscrete({ ...place("Pump"), trueState: "on", falseState: "off", value: { dataType: DataType.Boolean, value: true } });
}

module.exports = { values, addAnalog, addDiscrete };
