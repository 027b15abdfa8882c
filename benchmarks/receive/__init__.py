"""What counts and checks the messages at the broker."""
