"""A small plant that behaves: machines, a Modbus TCP and an OPC UA server, and a fault switch for each device."""
