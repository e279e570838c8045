"""The worker process: works on one chunk at a time. Loads neither grpc nor asyncio."""
