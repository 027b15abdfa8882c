// A broker that shares no code with Mosquitto, for the broker campaign: aedes 0.51 for MQTT 3.1.1, aedes 2 for MQTT 5.
//
//   node broker.js '{"port": 1883, ...}'
//
// Options (JSON, all but port optional):
//   mqtt                  5, else 3.1.1
//   limits                aedes 2's own options, such as {"maximumPacketSize": 3000, "receiveMaximum": 1}
//   users                 {"name": "password"}: who gets in; without it everybody
//   certificate, key      files: the port speaks TLS
// It says {"ready": true} on standard output, then answers each JSON line on standard input with one JSON line:
//   {"op": "deny", "topics": "readings$"}   such a topic is forbidden: 3.1.1 is cut off, 5 gets 0x87; null = none is
//   {"op": "users", "users": {...}}         others get in from now on
//   {"op": "seen"}                          clients by id with how often they came, the largest payload
// The end of standard input ends it.
"use strict";
const fs = require("node:fs");
const net = require("node:net");
const readline = require("node:readline");
const tls = require("node:tls");

const options = JSON.parse(process.argv[2]);
let users = options.users || null;
let denied = null;
const clients = {};
let largest = 0;

function obey(broker) {
    broker.authenticate = (client, name, password, done) => {
        if (!users || (name in users && users[name] === String(password))) return done(null, true);
        const refused = new Error("not authorised");
        refused.returnCode = 4; // MQTT 3.1.1, 3.2.2.3: bad user name or password
        return done(refused, null);
    };
    broker.authorizePublish = (client, packet, done) => {
        largest = Math.max(largest, packet.payload.length);
        done(denied && denied.test(packet.topic) ? new Error("denied") : null);
    };
    broker.on("client", (client) => { clients[client.id] = (clients[client.id] || 0) + 1; });
    for (const event of ["clientError", "connectionError"]) broker.on(event, () => {});
}

function answer(command) {
    switch (command.op) {
        case "deny": denied = command.topics ? new RegExp(command.topics) : null; return {};
        case "users": users = command.users; return {};
        case "seen": return { clients, largest };
        default: return { error: `unknown op ${command.op}` };
    }
}

async function main() {
    const broker =
        options.mqtt === 5 ? await (await import("aedes-2")).Aedes.createBroker(options.limits) : require("aedes")();
    obey(broker);
    const secure = options.certificate && { cert: fs.readFileSync(options.certificate), key: fs.readFileSync(options.key) };
    const server = secure ? tls.createServer(secure, broker.handle) : net.createServer(broker.handle);
    server.listen(options.port, "127.0.0.1", () => {
        const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
        readline
            .createInterface({ input: process.stdin })
            .on("line", (line) => say(answer(JSON.parse(line))))
            .on("close", () => process.exit(0));
        say({ ready: true });
    });
}

main().catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
});
