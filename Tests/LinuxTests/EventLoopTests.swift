import Linux
import Synchronization
import Testing

#if canImport(Glibc)
    import Glibc
#endif

@Suite(.timeLimit(.minutes(5))) struct EventLoopTests {
    private final class Counter: Sendable {
        let value = Atomic<Int>(0)
        func increment() { value.add(1, ordering: .sequentiallyConsistent) }
        var now: Int { value.load(ordering: .sequentiallyConsistent) }
        func wait(until target: Int) { while now < target { usleep(100) } }
    }

    @Test func handlersRunOnceASignalAndOnTheLoopThread() throws {
        let loop = try EventLoop(name: "test-loop")
        let event = try EventDescriptor()
        let counter = Counter()
        _ = try loop.register(event.rawValue) { _ in
            event.drain()
            counter.increment()
        }
        for target in 1...100 {
            event.signal()
            counter.wait(until: target)
        }
        loop.stop()
        event.signal()
        usleep(2000)
        #expect(counter.now == 100)
    }

    @Test func noHandlerRunsBetweenQuiesceAndResume() throws {
        let loop = try EventLoop(name: "test-loop")
        let event = try EventDescriptor()
        let counter = Counter()
        _ = try loop.register(event.rawValue) { _ in counter.increment() }  // stays ready: runs all the time
        event.signal()
        for _ in 0..<50 {
            counter.wait(until: counter.now + 1)
            loop.quiesce()
            let before = counter.now
            usleep(300)
            #expect(counter.now == before)
            loop.resume()
        }
        loop.stop()
    }

    @Test func quiesceWaitsForTheHandlerThatRuns() throws {
        let loop = try EventLoop(name: "test-loop")
        let entered = Counter()
        let left = Counter()
        loop.run {
            entered.increment()
            usleep(20_000)
            left.increment()
        }
        entered.wait(until: 1)
        loop.quiesce()
        #expect(left.now == 1)
        loop.resume()
        loop.stop()
    }

    @Test func unregisteredHandlersAreNotCalled() throws {
        let loop = try EventLoop(name: "test-loop")
        let event = try EventDescriptor()
        let counter = Counter()
        let registration = try loop.register(event.rawValue) { _ in counter.increment() }
        loop.quiesce()
        event.signal()
        loop.unregister(registration)
        loop.resume()
        usleep(2000)
        #expect(counter.now == 0)
        loop.stop()
    }

    @Test func stopEndsAQuiescedLoopAndIsIdempotent() throws {
        let loop = try EventLoop(name: "test-loop")
        loop.quiesce()
        loop.run {}
        loop.stop()
        loop.stop()
    }

    @Test func badDescriptorsAreRefused() throws {
        let loop = try EventLoop(name: "test-loop")
        #expect(throws: SystemError.self) { try loop.register(-1) { _ in } }
    }
}
