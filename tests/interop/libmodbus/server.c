/* A Modbus server on libmodbus, which shares no code with the gateway.
 *
 *   server check                      ends at once: it can run here
 *   server tcp PORT MEMORY            all units of MEMORY; a unit that is not there gets exception 11, as from a gateway
 *   server rtu DEVICE UNIT MEMORY     one unit on a serial line
 *
 * MEMORY is a file of lines "UNIT TABLE ADDRESS VALUE"; TABLE is coil, discrete, holding or input. What is not written
 * is 0, and every table ends at CELLS. Each request's function code is printed on a line of its own.
 */
#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#define CELLS 2000
#define UNITS 248

static modbus_mapping_t *units[UNITS];

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

static void load(const char *path) {
    FILE *file = fopen(path, "r");
    char table[16];
    int unit, address, value;
    if (file == NULL)
        fail(path);
    while (fscanf(file, "%d %15s %d %d", &unit, table, &address, &value) == 4) {
        if (unit < 0 || unit >= UNITS || address < 0 || address >= CELLS)
            fail("a line of the memory");
        if (units[unit] == NULL && (units[unit] = modbus_mapping_new(CELLS, CELLS, CELLS, CELLS)) == NULL)
            fail("memory");
        if (strcmp(table, "coil") == 0)
            units[unit]->tab_bits[address] = value;
        else if (strcmp(table, "discrete") == 0)
            units[unit]->tab_input_bits[address] = value;
        else if (strcmp(table, "holding") == 0)
            units[unit]->tab_registers[address] = value;
        else
            units[unit]->tab_input_registers[address] = value;
    }
    fclose(file);
}

static void told(int function) {
    printf("%d\n", function);
    fflush(stdout);
}

static void serve_tcp(int port) {
    modbus_t *server = modbus_new_tcp("127.0.0.1", port);
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    fd_set known, ready;
    int header, listener, highest;
    if (server == NULL || (listener = modbus_tcp_listen(server, 8)) == -1)
        fail("listening");
    header = modbus_get_header_length(server);
    FD_ZERO(&known);
    FD_SET(listener, &known);
    highest = listener;
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        ready = known;
        if (select(highest + 1, &ready, NULL, NULL, NULL) == -1)
            fail("select");
        for (int fd = 0; fd <= highest; fd++) {
            int length;
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listener) {
                int client = modbus_tcp_accept(server, &listener);
                if (client == -1)
                    fail("accepting");
                FD_SET(client, &known);
                highest = client > highest ? client : highest;
                continue;
            }
            modbus_set_socket(server, fd);
            length = modbus_receive(server, query);
            if (length == -1) {
                close(fd);
                FD_CLR(fd, &known);
            } else if (length > 0) {
                int unit = query[header - 1];
                told(query[header]);
                if (unit < UNITS && units[unit] != NULL)
                    modbus_reply(server, query, length, units[unit]);
                else
                    modbus_reply_exception(server, query, MODBUS_EXCEPTION_GATEWAY_TARGET);
            }
        }
    }
}

static void serve_rtu(const char *device, int unit) {
    modbus_t *server = modbus_new_rtu(device, 115200, 'N', 8, 2);
    uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];
    if (server == NULL || modbus_set_slave(server, unit) == -1 || modbus_connect(server) == -1)
        fail(device);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int length = modbus_receive(server, query);
        if (length > 0) {
            told(query[1]);
            modbus_reply(server, query, length, units[unit]);
        } else if (length == -1 && errno == EIO) {
            return;
        }
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "check") == 0)
        return 0;
    if (argc == 4 && strcmp(argv[1], "tcp") == 0) {
        load(argv[3]);
        serve_tcp(atoi(argv[2]));
    }
    if (argc == 5 && strcmp(argv[1], "rtu") == 0) {
        int unit = atoi(argv[3]);
        load(argv[4]);
        if (unit < 1 || unit >= UNITS || units[unit] == NULL)
            fail("the unit is not in the memory");
        serve_rtu(argv[2], unit);
    }
    fprintf(stderr, "see the head of server.c\n");
    return 2;
}
