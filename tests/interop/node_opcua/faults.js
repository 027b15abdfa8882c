// What the server refuses, holds back and writes down of the requests that it gets.
"use strict";
const { ServiceFault } = require("node-opcua-types");
const { TransferResult } = require("node-opcua-service-subscription");
const { StatusCodes } = require("node-opcua-status-code");

const LISTS = ["nodesToRead", "nodesToBrowse", "itemsToCreate", "itemsToModify", "monitoredItemIds", "browsePaths", "continuationPoints", "subscriptionIds"];
const WINDOW_MS = 1000;

function name(request) {
    return request.schema.name.replace(/Request$/, "");
}

class Faults {
    constructor(server, options) {
        this.server = server;
        this.rules = new Map(); // address of the loopback network, "" = everybody -> { refused, held }
        this.waiting = []; // what was held back: [channel, deal with it]
        this.clear();
        const handle = server.on_request.bind(server);
        server.on_request = (message, channel) => {
            const service = name(message.request);
            this.write(service, message.request);
            const { refused, held } = this.of(channel.remoteAddress);
            if (held.includes(service)) return this.waiting.push([channel, () => handle(message, channel)]);
            if (!refused[service]) return handle(message, channel);
            channel.send_response("MSG", new ServiceFault({ responseHeader: { serviceResult: StatusCodes[refused[service]] } }), message);
        };
        if (options.no_transfer) {
            // Refused one by one, the call itself is answered: as open62541 does for a session that is not the same user's.
            const statusCode = StatusCodes[options.no_transfer];
            server.engine.transferSubscription = async () => new TransferResult({ statusCode });
        }
    }

    of(address) {
        return this.rules.get((address || "").replace("::ffff:", "")) || this.rules.get("") || { refused: {}, held: [] };
    }

    // refused: service -> status code by name; held: services that get no answer until they are held no more, as at a
    // server that stands still; from: whose, if not everybody's
    set({ refused = {}, held = [], from = "" }) {
        this.rules.set(from, { refused, held });
        const waiting = this.waiting;
        this.waiting = [];
        for (const [channel, handle] of waiting) {
            if (this.of(channel.remoteAddress).held.length) this.waiting.push([channel, handle]);
            else if (channel.isOpened) handle();
        }
    }

    clear() {
        this.services = {};
        this.times = [];
        this.busiest = 0;
        this.sessions = 0;
    }

    write(service, request) {
        const seen = (this.services[service] ??= { calls: 0, most: 0 });
        seen.calls += 1;
        for (const list of LISTS) seen.most = Math.max(seen.most, request[list]?.length ?? 0);
        const now = Date.now();
        this.times.push(now);
        while (this.times[0] <= now - WINDOW_MS) this.times.shift();
        this.busiest = Math.max(this.busiest, this.times.length);
        this.sessions = Math.max(this.sessions, this.server.engine.currentSessionCount);
    }

    seen() {
        return { services: this.services, busiest: this.busiest, sessions: this.sessions };
    }
}

module.exports = { Faults };
