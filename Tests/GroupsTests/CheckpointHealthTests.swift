import Testing

@testable import Groups

/// Whether a group is checkpointed as promised, from facts alone.
@Suite struct CheckpointHealthTests {
    private static let second: Int64 = 1_000_000_000

    private func facts(age: Int64, period: Int64? = 10_000_000, rate: Double = 100) -> CheckpointHealth.Facts {
        let now = 1000 * Self.second
        var facts = CheckpointHealth.Facts(
            now: now, period: period, promisedSince: now - 100 * Self.second,
            backends: [CheckpointHealth.Backend(name: "store", durableStop: now - age)])
        facts.rate = rate
        facts.activity = "the next checkpoint waits"
        return facts
    }

    private func state(_ facts: CheckpointHealth.Facts) -> CheckpointHealth.State { CheckpointHealth(facts).state }

    @Test func latenessIsFoundWithinASecond() {
        #expect(state(facts(age: 20_000_000)) == .good)
        #expect(state(facts(age: 400_000_000)) == .good)
        for period in [1_000_000, 10_000_000, Self.second, 3600 * Self.second] {
            let rate = Double(Self.second) / Double(period)
            var late = facts(age: period + 700_000_000, period: period, rate: rate)
            late.promisedSince = late.now - 2 * period - 100 * Self.second
            #expect(state(late) == .late, "period \(period)")
            late.backends[0].durableStop = late.now - period
            #expect(state(late) == .good, "period \(period)")
        }
        // What was before the promise does not count.
        var resumed = facts(age: 50 * Self.second)
        resumed.promisedSince = resumed.now - 300_000_000
        #expect(state(resumed) == .good)
    }

    @Test func theReasonIsTold() {
        var stuck = facts(age: 12 * Self.second)
        stuck.backends[0].inFlight = 4
        stuck.backends[0].busySince = stuck.now - 11 * Self.second
        let health = CheckpointHealth(stuck)
        #expect(health.state == .late && health.note == "checkpoints late by 12.0 s")
        #expect(health.reason?.contains("4 under way, at its present step for 11.0 s") == true, "\(health.reason ?? "")")
        #expect(CheckpointHealth(facts(age: 12 * Self.second)).reason?.contains("the next checkpoint waits") == true)
        #expect(health.ageMilliseconds == 12_000)
    }

    @Test func whatIsWorseIsTold() {
        var both = facts(age: 20_000_000)
        both.backends.append(CheckpointHealth.Backend(name: "memory"))
        #expect(state(both) == .starting)
        both.backends[1].durableStop = both.now - 5 * Self.second
        #expect(state(both) == .late)
        both.backends[1].waitsFor = "room"
        #expect(CheckpointHealth(both).reason == "room" && state(both) == .noRoom)
        both.backends[0].failure = "broken"
        #expect(CheckpointHealth(both).reason == "broken" && state(both) == .failed)
        both.failure = "no volume"
        #expect(CheckpointHealth(both).reason == "no volume")
        #expect(state(facts(age: 20_000_000, rate: 30)) == .slow)
        #expect(state(facts(age: 20_000_000, rate: 60)) == .good)
        #expect(state(facts(age: 50 * Self.second, period: nil)) == .manual)
        var held = facts(age: 50 * Self.second, period: nil)
        held.isHeld = true
        #expect(state(held) == .held)
        held.backends = []
        #expect(state(held) == CheckpointHealth.State.none)
    }

    /// What matters is told at once, each change once; what quivers is not.
    @Test func whatIsTold() {
        var teller = HealthTeller()
        var now: Int64 = 0
        func look(_ facts: CheckpointHealth.Facts, after nanoseconds: Int64 = 200_000_000) -> HealthTeller.Message? {
            now += nanoseconds
            return teller.look(CheckpointHealth(facts), now: now)
        }
        let (good, slow, late) = (facts(age: 1), facts(age: 1, rate: 10), facts(age: 9 * Self.second))
        for _ in 0..<20 { #expect(look(good) == nil) }
        #expect(look(late)?.isWarning == true)
        #expect(look(late) == nil)
        #expect(look(good) == nil)
        #expect(look(late) == nil, "it was not good for long enough")
        #expect(look(good) == nil)
        #expect(look(good, after: Self.second)?.text == "Checkpoints go on as promised")
        for _ in 0..<20 {
            #expect(look(slow) == nil)
            #expect(look(good) == nil)
        }
        #expect(look(slow) == nil)
        #expect(look(slow, after: 3 * Self.second)?.text.hasPrefix("Checkpoints are slow") == true)
        var full = good
        full.backends[0].waitsFor = "The disk is full"
        #expect(look(full) == HealthTeller.Message(text: "Checkpoints wait for room. The disk is full", isWarning: true))
        #expect(look(good, after: Self.second) == nil)
        #expect(look(good, after: Self.second)?.isWarning == false)
    }

    @Test func theJournalIsBoundedAndTellsWhatItLost() {
        var journal = EventJournal()
        #expect(journal.events(after: 0, process: 1).events.isEmpty)
        for number in 1...EventJournal.eventsMax + 100 { journal.append(.state, "\(number)", time: "t") }
        let all = journal.events(after: 0, process: 1)
        #expect(all.events.count == EventJournal.eventsMax && all.lost == 100 && all.latest == UInt64(EventJournal.eventsMax + 100))
        #expect(all.events.first?.number == 101 && all.events.first?.message == "101")
        let rest = journal.events(after: 150, process: 1)
        #expect(rest.lost == 0 && rest.events.first?.number == 151)
        #expect(journal.events(after: all.latest, process: 1).events.isEmpty)
        // A number of another process's journal counts as none.
        #expect(journal.events(after: .max, process: 1).lost == 100)
        journal.append(.warning, String(repeating: "x", count: 5000), time: "t")
        #expect(journal.events(after: all.latest, process: 1).events.map(\.message.count) == [EventJournal.messageMax])
    }

    @Test func metricsAreOnePerLine() {
        var report = PersistenceReport()
        report.backends = [PersistenceReport.Backend(kind: .store, durableNumber: 5)]
        report.health = CheckpointHealth(facts(age: 12 * Self.second))
        report.durabilityLagMilliseconds = 12_000
        let text = GroupMetrics.text(report, state: .running, warnings: 1, events: 3)
        #expect(text.contains("aurora_group_state{state=\"running\"} 1.0\n"))
        #expect(text.contains("aurora_group_checkpoints_as_promised 0.0\n"))
        #expect(text.contains("aurora_group_checkpoint_health{state=\"late\"} 1.0\n"))
        #expect(text.contains("aurora_group_checkpoint_lag_seconds 12.0\n"))
        #expect(text.contains("aurora_group_checkpoint_durable_number{backend=\"store\"} 5.0\n"))
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            #expect(line.split(separator: " ").count == 2 && Double(line.split(separator: " ")[1]) != nil, "\(line)")
        }
        let none = GroupMetrics.text(PersistenceReport(), state: .paused, warnings: 0, events: 0)
        #expect(!none.contains("as_promised") && none.contains("paused"))
    }
}
