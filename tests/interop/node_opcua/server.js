// An OPC UA server that shares no code with the gateway, for interoperability tests.
//
//   node server.js '{"port": 4840, "folder": "/tmp/pki", ...}'
//
// Options (JSON, all but port and folder optional):
//   counters, period_ms, quiet_time   how many Int32 nodes c0, c1, ..., how often they count, not before the first "run"
//   user, password, anonymous         who gets in; without a user everybody, with anonymous: true both
//   users                             folder whose trusted/certs log in by certificate
//   certificate, key                  files of the server's own, instead of one that it makes in folder
//   limits, max_sessions              operation limits by node-opcua's names
//   history, history_page             values of each counter that HistoryRead finds; the most of them in one answer
//   no_transfer                       status by name with which every TransferSubscriptions is refused, one by one
//   signed_transfer                   the library's own rule: no transfer over a channel without signatures
//   shifted                           the nodes' namespace has another index
// It says {"ready": true, ...} on standard output, then answers each JSON line on standard input with one JSON line:
//   {"op": "run"} | {"op": "pause"}             count or not; answers with every counter's value so far
//   {"op": "set", "node", "value", "status"}    a value and a status code, by name or as a number with its info bits
//   {"op": "delete", "nodes": [...]} | {"op": "restore"}
//   {"op": "add", "node", "type", "value"}      a node, or after "delete" one of another type
//   {"op": "describe", "node": "Level", "low", "high", "unit"}   EURange and EngineeringUnits, for example "kelvin"
//   {"op": "state", "state": 3}                 ServerStatus.State
//   {"op": "level", "level": 255, "returns": "2026-...Z"}   ServiceLevel, EstimatedReturnTime
//   {"op": "shutdown", "seconds"}               state Shutdown with a countdown, then it ends
//   {"op": "stall"} | {"op": "resume"}          PublishRequests wait while everything else goes on
//   {"op": "refuse", "services": {"CreateSession": "BadTooManySessions"}}   answered with a fault; {} = none
//                                               both with "from": "127.0.0.7" for one client only
//   {"op": "recertify"}                         the certificate file is another now
//   {"op": "expire"}                            every session times out, subscriptions stay
//   {"op": "end", "subscription": id}           a subscription ends as if its lifetime had passed
//   {"op": "count"}                             sessions, subscriptions, monitored items
//   {"op": "seen"}                              requests since the last "seen": calls and longest list by service,
//                                               the most within a second, the most sessions at once
// The end of standard input ends it.
"use strict";
const path = require("node:path");
const readline = require("node:readline");
const { OPCUAServer, defaultServerCapabilities } = require("node-opcua-server");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { Variant, DataType, VariantArrayType } = require("node-opcua-variant");
const { StatusCodes, getStatusCodeFromCode } = require("node-opcua-status-code");
const { standardUnits } = require("node-opcua-data-access");
const { nodesets } = require("node-opcua-nodesets");
const { MessageSecurityMode } = require("node-opcua-service-secure-channel");
const { SecurityPolicy } = require("node-opcua-secure-channel");
const { Faults } = require("./faults.js");
const { values, addAnalog, addDiscrete } = require("./nodes.js");

const URI = "http://interop.test/";

// It samples every 50 ms and yet never names less than this.
defaultServerCapabilities.minSupportedSampleRate = 50;

const options = JSON.parse(process.argv[2]);
const counters = [];
const nodes = new Map();
const removed = new Map();
let counting = !options.quiet_time;
let faults;
const health = { level: 255, returns: new Date(Date.UTC(1601, 0, 1)) };

function add(namespace, folder, name, dataType, variant) {
    const shape = { [VariantArrayType.Array]: { valueRank: 1 }, [VariantArrayType.Matrix]: { valueRank: variant.dimensions?.length, arrayDimensions: variant.dimensions } };
    const node = namespace.addVariable({
        organizedBy: folder,
        browseName: name,
        nodeId: `s=${name}`,
        dataType,
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
            const status = typeof of.status === "number" ? getStatusCodeFromCode(of.status) : StatusCodes[of.status || "Good"];
            node.setValueFromSource(value, status, new Date());
            return {};
        }
        case "delete":
            for (const name of of.nodes) {
                removed.set(name, nodes.get(name).readValue().value);
                namespace.addressSpace.deleteNode(nodes.get(name).nodeId);
                nodes.delete(name);
            }
            return {};
        case "add":
            add(namespace, folder, of.node, of.type, { dataType: DataType[of.type], value: of.value });
            return {};
        case "describe": {
            const node = nodes.get(of.node);
            if (of.high !== undefined) {
                const range = namespace.addressSpace.constructExtensionObject(namespace.addressSpace.findDataType("Range"), of);
                node.euRange.setValueFromSource({ dataType: DataType.ExtensionObject, value: range });
            }
            if (of.unit) node.engineeringUnits.setValueFromSource({ dataType: DataType.ExtensionObject, value: standardUnits[of.unit] });
            return {};
        }
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
            faults.set({ held: ["Publish"], from: of.from });
            return {};
        case "resume":
            faults.set({ from: of.from });
            return {};
        case "refuse":
            faults.set({ refused: of.services, from: of.from });
            return {};
        case "recertify":
            server.invalidateCachedCertificates();
            for (const endpoint of server.endpoints) endpoint.invalidateCertificates();
            return {};
        case "seen": {
            const seen = faults.seen();
            faults.clear();
            return seen;
        }
        case "expire":
            for (const token of Object.keys(server.engine._sessions)) server.engine.closeSession(token, false, "Timeout");
            return {};
        case "end":
            server.engine.findSubscription(of.subscription).terminate();
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
    let userCertificateManager = serverCertificateManager;
    if (options.users) {
        userCertificateManager = new OPCUACertificateManager({ rootFolder: options.users, automaticallyAcceptUnknownCertificate: false });
        await userCertificateManager.initialize();
    }
    const server = new OPCUAServer({
        port: options.port,
        hostname: "127.0.0.1",
        host: "127.0.0.1",
        nodeset_filename: [nodesets.standard, ...(options.shifted ? ["other.xml"] : []), "plant.xml"].map((file) => path.resolve(__dirname, file)),
        serverCertificateManager,
        userCertificateManager,
        certificateFile: options.certificate || `${options.folder}/server.pem`,
        ...(options.key ? { privateKeyFile: options.key } : {}),
        allowAnonymous: !options.user || Boolean(options.anonymous),
        userManager: { isValidUser: (user, password) => user === options.user && password === options.password },
        securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
        securityPolicies: [
            SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes128_Sha256_RsaOaep, SecurityPolicy.Aes256_Sha256_RsaPss,
        ],
        serverInfo: { applicationUri: "urn:interop.test:server" },
        maxConnectionsPerEndpoint: 100,
        allowAnonymousSubscriptionTransferOnUnsecuredChannel: !options.signed_transfer,
        serverCapabilities: {
            minSupportedSampleRate: 50,
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
    const namespace = addressSpace.getNamespace(URI);
    const folder = namespace.addFolder("ObjectsFolder", { browseName: "Interop" });
    for (const [name, dataType, variant] of values(addressSpace, namespace.index)) add(namespace, folder, name, dataType, variant);
    nodes.set("Level", addAnalog(namespace, folder));
    nodes.get("Level").setValueFromSource({ dataType: DataType.Double, value: 50 });
    addDiscrete(namespace, folder);
    for (let i = 0; i < (options.counters || 0); i++) addCounter(namespace, folder, `c${i}`);
    bindHealth(addressSpace);
    await server.start();
    // After what is due to be sampled: no count is made before the one before it was looked at, however late timers are.
    setInterval(() => setImmediate(count), options.period_ms || 100);
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
