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

    /// A body that does not return holds nobody for longer than they want, and one that was left ends by itself.
    @Test func aThreadThatHangsIsLeft() throws {
        let isHeld = Atomic(true)
        let hasEnded = Atomic(false)
        let thread = try Thread(name: "hangs") {
            while isHeld.load(ordering: .acquiring) { usleep(200) }
            hasEnded.store(true, ordering: .releasing)
        }
        #expect(!thread.join(withinNanoseconds: 1_000_000))
        thread.leave()
        #expect(!thread.join(withinNanoseconds: 3_600_000_000_000))
        thread.join()
        isHeld.store(false, ordering: .releasing)
        while !hasEnded.load(ordering: .acquiring) { usleep(200) }
        let quick = try Thread(name: "quick") {}
        #expect(quick.join(withinNanoseconds: 60_000_000_000))
        #expect(quick.join(withinNanoseconds: 0))
    }

    /// Whoever cannot have a turn is told what its holder is at; nobody is passed over.
    @Test func aTurnHasABound() throws {
        struct Refused: Error { let denial: Turn.Denial }
        let turn = Turn()
        let isTaken = Atomic(false)
        let isHeld = Atomic(true)
        let holder = try Thread(name: "holder") {
            _ = try? turn.take("a long write", withinNanoseconds: 0, orThrow: { Refused(denial: $0) }) { () throws(Refused) in
                isTaken.store(true, ordering: .releasing)
                while isHeld.load(ordering: .acquiring) { usleep(200) }
            }
        }
        while !isTaken.load(ordering: .acquiring) { usleep(200) }
        let refused = #expect(throws: Refused.self) {
            try turn.take("mine", withinNanoseconds: 1_000_000, orThrow: { Refused(denial: $0) }) { () throws(Refused) in }
        }
        #expect(refused?.denial.holder == "a long write" && refused?.denial.description.hasPrefix("a long write has been") == true)
        let inside = Atomic(0)
        let others = try (0..<4).map { number in
            try Thread(name: "other \(number)") {
                for _ in 0..<200 {
                    _ = try? turn.take("a short one", withinNanoseconds: 60_000_000_000, orThrow: { Refused(denial: $0) }) {
                        () throws(Refused) in
                        inside.store(inside.load(ordering: .relaxed) + 1, ordering: .relaxed)
                    }
                }
            }
        }
        isHeld.store(false, ordering: .releasing)
        for thread in others + [holder] { thread.join() }
        #expect(inside.load(ordering: .relaxed) == 800)
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
