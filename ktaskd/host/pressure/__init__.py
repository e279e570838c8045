"""Pressure: how long others waited for CPU, memory and disks."""
