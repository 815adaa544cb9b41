import Testing

@testable import Groups

@Suite struct EventQueueTests {
    @Test func ordersGoFirstAndTheLastBeforeAll() throws {
        let queue = try EventQueue<String>()
        queue.push("1")
        queue.push("stop", .order)
        queue.push("2", .once)
        queue.push("stop again", .order)
        queue.push("cut", .last)
        let taken = (0..<6).map { _ in queue.next(timeoutMilliseconds: 0) }
        #expect(taken == ["cut", "stop", "stop again", "1", "2", nil])
    }

    /// Whoever floods a lane is told that it is full; neither the other lane nor what comes once is refused for that.
    @Test func lanesHaveABound() throws {
        let queue = try EventQueue<Int>(eventsMax: 10)
        #expect((0..<1000).map { queue.push($0) }.filter { $0 }.count == 10)
        #expect((0..<1000).map { queue.push($0, .order) }.filter { $0 }.count == 10)
        #expect(queue.push(-1, .once) && queue.push(-2, .last))
        var count = 0
        while queue.next(timeoutMilliseconds: 0) != nil { count += 1 }
        #expect(count == 22)
    }

    @Test func whatIsNotWantedStaysInItsOrder() throws {
        let queue = try EventQueue<Int>()
        for number in 1...5 { queue.push(number) }
        #expect(queue.next(timeoutMilliseconds: 0) { $0 == 3 } == 3)
        #expect(queue.next(timeoutMilliseconds: 1) { $0 > 10 } == nil)
        #expect((0..<4).map { _ in queue.next(timeoutMilliseconds: 0) } == [1, 2, 4, 5])
    }
}
