import CLinux
import Linux
import Synchronization
import Testing

@Suite struct ThreadTests {
    /// Whoever has joined a thread may free what it uses: also the one who came second.
    @Test func everyoneWhoJoinsWaits() throws {
        for _ in 0..<50 {
            let hasEnded = Atomic(false)
            let early = Atomic(0)
            let worker = try Thread(name: "worker") {
                for _ in 0..<20 { sched_yield() }
                hasEnded.store(true, ordering: .releasing)
            }
            let joiners = try (0..<4).map { number in
                try Thread(name: "joiner \(number)") {
                    worker.join()
                    if !hasEnded.load(ordering: .acquiring) { early.add(1, ordering: .relaxed) }
                }
            }
            for joiner in joiners { joiner.join() }
            #expect(early.load(ordering: .relaxed) == 0)
        }
    }

    /// A handle that was joined names nothing: using it has crashed whole programs.
    @Test func interruptingAJoinedThreadIsHarmless() throws {
        Thread.installInterruptHandler()
        for _ in 0..<50 {
            let threads = try (0..<4).map { try Thread(name: "test \($0)") {} }
            for thread in threads { thread.join() }
            for thread in threads {
                thread.join()
                thread.interrupt()
            }
        }
    }
}
