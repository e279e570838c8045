"""The child's side: one chunk at a time. Loads no grpc and no asyncio."""
