import Linux
import Testing

@Suite struct ThreadTests {
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
