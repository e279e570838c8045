"""Sockets: peers, descriptors in messages, listeners, notifications."""
