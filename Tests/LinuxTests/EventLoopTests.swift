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

    /// Whoever closes what a handler uses waits for the call that has begun, and no other begins.
    @Test func unregisteringWaitsForTheHandlerThatRuns() throws {
        let loop = try EventLoop(name: "test-loop")
        let event = try EventDescriptor()
        let (entered, mayLeave, left) = (Counter(), Counter(), Counter())
        let registration = try loop.register(event.rawValue) { _ in
            entered.increment()
            mayLeave.wait(until: 1)
            left.increment()
        }
        event.signal()
        entered.wait(until: 1)
        let closer = try Thread(name: "closer") { @Sendable in
            loop.unregister(registration, waits: true)
            #expect(left.now == 1)
        }
        while !loop.isWaitedFor { usleep(100) }
        mayLeave.increment()
        closer.join()
        loop.stop()
        #expect(entered.now == 1)
    }

    /// A handler that unregisters itself does not wait for itself, and one that is let go may unregister another.
    @Test func unregisteringInsideAHandler() throws {
        let loop = try EventLoop(name: "test-loop")
        let event = try EventDescriptor()
        let registration = Mutex<EventLoop.Registration?>(nil)
        let counter = Counter()
        let made = try loop.register(event.rawValue) { _ in
            if let registration = registration.withLock({ $0 }) { loop.unregister(registration, waits: true) }
            counter.increment()
        }
        registration.withLock { $0 = made }
        event.signal()
        counter.wait(until: 1)
        loop.stop()
        #expect(counter.now == 1)
    }

    @Test func aHandlerThatDoesNotReturnIsGivenUp() throws {
        let loop = try EventLoop(name: "test-loop")
        let (entered, mayLeave, later) = (Counter(), Counter(), Counter())
        loop.run {
            entered.increment()
            mayLeave.wait(until: 1)
        }
        entered.wait(until: 1)
        #expect(!loop.quiesce(seconds: 0))
        #expect(!loop.isWaitedFor)
        loop.run { later.increment() }
        mayLeave.increment()
        // Nothing was kept from running.
        later.wait(until: 1)
        loop.run {
            entered.increment()
            mayLeave.wait(until: 2)
        }
        entered.wait(until: 2)
        #expect(!loop.stop(seconds: 0))
        mayLeave.increment()
        #expect(loop.stop())
    }

    @Test func aHandlerSeesThatItIsWaitedFor() throws {
        let loop = try EventLoop(name: "test-loop")
        let entered = Counter()
        loop.run {
            entered.increment()
            while !loop.isWaitedFor { usleep(100) }
        }
        entered.wait(until: 1)
        #expect(loop.quiesce())
        loop.resume()
        loop.stop()
    }

    /// Who waits for work that will never be done learns of it by its being let go.
    @Test func workOfALoopThatHasEndedIsLetGo() throws {
        final class Witness: Sendable {
            let counter: Counter
            init(_ counter: Counter) { self.counter = counter }
            deinit { counter.increment() }
        }
        let loop = try EventLoop(name: "test-loop")
        let counter = Counter()
        loop.quiesce()
        var witness: Witness? = Witness(counter)
        loop.run { [witness] in _ = witness }
        loop.stop()
        witness = nil
        #expect(counter.now == 1)
        witness = Witness(counter)
        loop.run { [witness] in _ = witness }
        witness = nil
        #expect(counter.now == 2)
    }

    @Test func badDescriptorsAreRefused() throws {
        let loop = try EventLoop(name: "test-loop")
        #expect(throws: SystemError.self) { try loop.register(-1) { _ in } }
    }
}
