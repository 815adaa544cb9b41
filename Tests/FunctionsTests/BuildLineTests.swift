import Testing

@testable import Functions

/// Whose build is next.
struct BuildLineTests {
    private func line(_ change: (inout BuildLimits) -> Void = { _ in }) -> BuildLine {
        var limits = BuildLimits()
        change(&limits)
        return BuildLine(limits)
    }

    /// Whose turn it is now.
    private func next(_ line: inout BuildLine) -> [BuildLine.Ticket] { line.next() }
    private func slow(_ line: inout BuildLine, _ ticket: BuildLine.Ticket) -> Bool { line.slow(ticket) }
    private func reserve(_ line: inout BuildLine) -> Bool { line.reserve() }

    @Test func buildsRunInTheOrderOfTheirComing() {
        var line = line()
        let tickets = (0..<4).map { _ in line.add(isRetry: false) }
        let (first, none) = (next(&line), next(&line))
        #expect(first == [tickets[0], tickets[1]] && none.isEmpty)
        line.remove(tickets[1])
        let second = next(&line)
        #expect(second == [tickets[2]])
        line.remove(tickets[0])
        line.remove(tickets[2])
        let third = next(&line)
        #expect(third == [tickets[3]] && line.waitingCount == 0)
    }

    /// What takes long makes room for two others; and those are as many as there may be.
    @Test func slowBuildsHoldUpNobody() {
        var line = line()
        let tickets = (0..<6).map { _ in line.add(isRetry: false) }
        let first = next(&line)
        let slows = [tickets[0], tickets[0], tickets[1]].map { slow(&line, $0) }
        #expect(first.count == 2 && slows == [true, false, true])
        let second = next(&line)
        #expect(second == [tickets[2], tickets[3]])
        let third = slow(&line, tickets[2])
        let none = next(&line)
        #expect(!third && none.isEmpty && line.runningCount == 4)
        // One of the slow is over: the next one that takes long may leave its place.
        line.remove(tickets[0])
        let still = next(&line)
        let isSlow = slow(&line, tickets[2])
        let last = next(&line)
        #expect(still.isEmpty && isSlow && last == [tickets[4]])
    }

    /// Functions that fail when they are initialized, and are asked for again and again, leave a place for changes.
    @Test func retriesLeaveAPlace() {
        var line = line()
        let retries = (0..<3).map { _ in line.add(isRetry: true) }
        let change = line.add(isRetry: false)
        let first = next(&line)
        #expect(first == [retries[0], change])
        line.remove(change)
        let none = next(&line)
        #expect(none.isEmpty)
        line.remove(retries[0])
        let second = next(&line)
        #expect(second == [retries[1]])
        var single = self.line { $0.buildsMax = 1 }
        let only = single.add(isRetry: true)
        let alone = next(&single)
        #expect(alone == [only], "where there is one place they have it")
    }

    @Test func theLineIsBounded() {
        var line = line { $0.waitingMax = 2 }
        let places = (0..<3).map { _ in reserve(&line) }
        #expect(places == [true, true, false])
        _ = line.add(isRetry: false)
        line.unreserve()
        let full = reserve(&line)
        #expect(!full, "one waits, one place is promised")
        let turns = next(&line)
        let free = reserve(&line)
        #expect(turns.count == 1 && free)
    }
}
