"""The runtime: the only place where tasks begin. One group owns the gateway, one supervisor owns each device."""
