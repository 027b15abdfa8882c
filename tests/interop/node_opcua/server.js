// An OPC UA server that shares no code with the gateway, for interoperability tests.
//
//   node server.js '{"port": 4840, "folder": "/tmp/pki", ...}'
//
// Options (JSON, all but port and folder optional): counters (number of Int32 nodes c0, c1, ...), period_ms (how often
// they count), user and password, limits (operation limits by node-opcua's names), max_sessions, quiet_time (no
// counting before the first "run"), history (values of each counter that HistoryRead finds), history_page (the most in
// one answer, the rest behind continuation points), no_transfer (status code by name with which each transferred
// subscription is refused), signed_transfer (the library's own rule: no transfer over a channel without signatures).
// It says {"ready": true, ...} on standard output, then answers each JSON line on standard input with one JSON line:
//   {"op": "run"} | {"op": "pause"}             count or not; answers with every counter's value so far
//   {"op": "set", "node", "value", "status"}    a value and a status code by name
//   {"op": "delete", "nodes": [...]} | {"op": "restore"}
//   {"op": "state", "state": 3}                 ServerStatus.State
//   {"op": "level", "level": 255, "returns": "2026-...Z"}   ServiceLevel, EstimatedReturnTime
//   {"op": "shutdown", "seconds"}               state Shutdown with a countdown, then it ends
//   {"op": "stall"} | {"op": "resume"}          PublishRequests are swallowed while everything else goes on
//   {"op": "refuse", "services": {"CreateSession": "BadTooManySessions"}}   answered with a fault; {} = none
//   {"op": "expire"}                            every session times out, subscriptions stay
//   {"op": "count"}                             sessions, subscriptions, monitored items
//   {"op": "seen"}                              requests since the last "seen": calls and longest list by service,
//                                               the most within a second, the most sessions at once
// The end of standard input ends it.
"use strict";
const readline = require("node:readline");
const { OPCUAServer } = require("node-opcua-server");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { Variant, DataType, VariantArrayType } = require("node-opcua-variant");
const { DataValue } = require("node-opcua-data-value");
const { StatusCodes } = require("node-opcua-status-code");
const { LocalizedText, QualifiedName } = require("node-opcua-data-model");
const { NodeId, ExpandedNodeId, NodeIdType } = require("node-opcua-nodeid");
const { MessageSecurityMode } = require("node-opcua-service-secure-channel");
const { SecurityPolicy } = require("node-opcua-secure-channel");
const { Faults } = require("./faults.js");

const URI = "http://interop.test/";
const STRUCTURE = 884; // Range, a structure that every server knows

const options = JSON.parse(process.argv[2]);
const counters = [];
const nodes = new Map();
const removed = new Map();
let counting = !options.quiet_time;
let faults;
const health = { level: 255, returns: new Date(Date.UTC(1601, 0, 1)) };

function types(addressSpace) {
    const scalar = {
        Boolean: true,
        SByte: -5,
        Byte: 200,
        Int16: -30000,
        UInt16: 60000,
        Int32: -(2 ** 31),
        UInt32: 2 ** 32 - 1,
        Int64: [0x80000000, 0], // the smallest, as two halves
        UInt64: [0xffffffff, 0xffffffff],
        Float: 1.5,
        Double: 20.1,
        String: "温度",
        DateTime: new Date(Date.UTC(2026, 2, 1, 8, 30, 0, 250)),
        Guid: "12345678-9ABC-DEF0-1234-56789ABCDEF0",
        ByteString: Buffer.from([0, 255]),
        XmlElement: "<a/>",
        NodeId: new NodeId(NodeIdType.STRING, "x", 2),
        ExpandedNodeId: new ExpandedNodeId(NodeIdType.NUMERIC, 7, 1, null, 0),
        StatusCode: StatusCodes.BadTimeout,
        QualifiedName: new QualifiedName({ namespaceIndex: 1, name: "q" }),
        LocalizedText: new LocalizedText({ locale: "en", text: "running" }),
        ExtensionObject: addressSpace.constructExtensionObject(addressSpace.findDataType(STRUCTURE), { low: 1, high: 9 }),
    };
    const made = Object.entries(scalar).map(([name, value]) => [name, name, { dataType: DataType[name], arrayType: VariantArrayType.Scalar, value }]);
    const array = VariantArrayType.Array;
    made.push(["Doubles", "Double", { dataType: DataType.Double, arrayType: array, value: new Float64Array([1, 2.5]) }]);
    made.push(["Strings", "String", { dataType: DataType.String, arrayType: array, value: ["a", "b"] }]);
    made.push(["Matrix", "Int32", {
        dataType: DataType.Int32, arrayType: VariantArrayType.Matrix, dimensions: [2, 2], value: new Int32Array([1, 2, 3, 4]),
    }]);
    made.push(["NotANumber", "Double", { dataType: DataType.Double, value: Number.NaN }]);
    return made;
}

function add(namespace, folder, name, dataType, variant) {
    const shape = { [VariantArrayType.Array]: { valueRank: 1 }, [VariantArrayType.Matrix]: { valueRank: 2, arrayDimensions: variant.dimensions } };
    const node = namespace.addVariable({
        organizedBy: folder,
        browseName: name,
        nodeId: `s=${name}`,
        dataType: dataType === "ExtensionObject" ? "Range" : dataType,
        ...shape[variant.arrayType],
    });
    node.setValueFromSource(new Variant(variant));
    nodes.set(name, node);
    return node;
}

function keepHistory(node) {
    node.addressSpace.installHistoricalDataNode(node, { maxOnlineValues: options.history });
    if (!options.history_page) return;
    const read = node._historyReadRaw;
    node._historyReadRaw = function (context, details, ...rest) {
        details.numValuesPerNode = Math.min(details.numValuesPerNode || options.history_page, options.history_page);
        return read.call(this, context, details, ...rest);
    };
}

function addCounter(namespace, folder, name) {
    const node = add(namespace, folder, name, "Int32", { dataType: DataType.Int32, value: 0 });
    if (options.history) keepHistory(node);
    counters.push({ name, value: 0, node });
}

function bindHealth(addressSpace) {
    const bind = (id, dataType, get) => addressSpace.findNode(id).bindVariable({ get: () => new Variant({ dataType, value: get() }) }, true);
    bind("i=2267", DataType.Byte, () => health.level); // Server_ServiceLevel
    bind("i=12885", DataType.DateTime, () => health.returns); // Server_EstimatedReturnTime
}

function count() {
    if (!counting) return;
    const now = new Date();
    for (const counter of counters) {
        counter.value += 1;
        if (nodes.get(counter.name) === counter.node) {
            counter.node.setValueFromSource({ dataType: DataType.Int32, value: counter.value }, StatusCodes.Good, now);
        }
    }
}

function answer(server, namespace, folder, { op, ...of }) {
    switch (op) {
        case "run":
        case "pause":
            counting = op === "run";
            return { values: counters.map((counter) => counter.value) };
        case "set": {
            const node = nodes.get(of.node);
            const value = of.value === undefined ? node.readValue().value : new Variant({ ...node.readValue().value, value: of.value });
            node.setValueFromSource(value, StatusCodes[of.status || "Good"], new Date());
            return {};
        }
        case "delete":
            for (const name of of.nodes) {
                removed.set(name, nodes.get(name).readValue().value);
                namespace.addressSpace.deleteNode(nodes.get(name).nodeId);
                nodes.delete(name);
            }
            return {};
        case "restore":
            for (const [name, variant] of removed) {
                const node = add(namespace, folder, name, DataType[variant.dataType], variant);
                for (const counter of counters) if (counter.name === name) counter.node = node;
            }
            removed.clear();
            return {};
        case "state":
            server.engine.setServerState(of.state);
            return {};
        case "level":
            if (of.level !== undefined) health.level = of.level;
            if (of.returns !== undefined) health.returns = new Date(of.returns);
            return {};
        case "shutdown":
            server.shutdown(of.seconds * 1000, () => process.exit(0));
            return {};
        case "stall":
            faults.swallowed.add("Publish");
            return {};
        case "resume":
            faults.swallowed.clear();
            return {};
        case "refuse":
            faults.refused = new Map(Object.entries(of.services).map(([service, status]) => [service, StatusCodes[status]]));
            return {};
        case "seen": {
            const seen = faults.seen();
            faults.clear();
            return seen;
        }
        case "expire":
            for (const token of Object.keys(server.engine._sessions)) server.engine.closeSession(token, false, "Timeout");
            return {};
        case "count":
            return {
                sessions: server.engine.currentSessionCount,
                subscriptions: server.engine.currentSubscriptionCount,
                created: server.engine.cumulatedSubscriptionCount,
            };
        default:
            return { error: `no such op: ${op}` };
    }
}

async function main() {
    const serverCertificateManager = new OPCUACertificateManager({
        rootFolder: options.folder, automaticallyAcceptUnknownCertificate: true,
    });
    await serverCertificateManager.initialize();
    const server = new OPCUAServer({
        port: options.port,
        hostname: "127.0.0.1",
        host: "127.0.0.1",
        serverCertificateManager,
        userCertificateManager: serverCertificateManager,
        certificateFile: `${options.folder}/server.pem`,
        allowAnonymous: !options.user,
        userManager: { isValidUser: (user, password) => user === options.user && password === options.password },
        securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
        securityPolicies: [
            SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes128_Sha256_RsaOaep, SecurityPolicy.Aes256_Sha256_RsaPss,
        ],
        serverInfo: { applicationUri: "urn:interop.test:server" },
        maxConnectionsPerEndpoint: 100,
        allowAnonymousSubscriptionTransferOnUnsecuredChannel: !options.signed_transfer,
        serverCapabilities: {
            maxSessions: options.max_sessions || 100,
            maxMonitoredItems: 20000,
            maxMonitoredItemsPerSubscription: 20000,
            maxMonitoredItemsQueueSize: 2000,
            operationLimits: options.limits || {},
        },
    });
    await server.initialize();
    faults = new Faults(server, options);

    const addressSpace = server.engine.addressSpace;
    const namespace = addressSpace.registerNamespace(URI);
    const folder = namespace.addFolder("ObjectsFolder", { browseName: "Interop" });
    for (const [name, dataType, variant] of types(addressSpace)) add(namespace, folder, name, dataType, variant);
    for (let i = 0; i < (options.counters || 0); i++) addCounter(namespace, folder, `c${i}`);
    bindHealth(addressSpace);
    await server.start();
    setInterval(count, options.period_ms || 100);
    const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
    readline
        .createInterface({ input: process.stdin })
        .on("line", (line) => say(answer(server, namespace, folder, JSON.parse(line))))
        .on("close", () => process.exit(0));
    say({ ready: true });
}

main().catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
});
