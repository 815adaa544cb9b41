"""A program that has touched some memory and does nothing more: what an instance of an image costs."""
held = [pattern(number) for number in range(1, 1025)]


def check():
    for number, block in enumerate(held, 1):
        harness.expect(block == pattern(number), f"block {number} changed")
    return {"counter": len(held)}


harness.status = lambda: {"counter": len(held)}
harness.check = check
harness.serve()
threading.Event().wait()
