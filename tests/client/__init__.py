"""The client library and its commands, against a fake daemon and the real one."""
