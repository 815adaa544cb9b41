import Linux

@testable import Snapshot

/// Decides by a seed which activity makes its next step, and when time passes.
///
/// `@unchecked Sendable`: a simulation has one thread.
final class SimulatedScheduler: PipelineScheduler, @unchecked Sendable {
    /// A step that is due waits so long at most, if nobody stalls it: nanoseconds.
    private static let turnMax = 40_000

    var generator: SeededGenerator
    private(set) var now: Int64 = 1_000_000_000
    private(set) var activities: [SimulatedActivity] = []
    /// Lets something else happen while an activity waits for another's end.
    var turn: () -> Void = {}
    /// What is told when something does not end.
    var complain: (String) -> Void = { _ in }

    var wallClock: Int64 { 1_600_000_000_000_000_000 + now }

    init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    func start(
        _ name: String, isUrgent: Bool, wake: WakeSignal, _ step: @escaping @Sendable () -> NextStep
    ) throws(SystemError) -> any PipelineActivityRun {
        let activity = SimulatedActivity(self, name, wake, step)
        activities.append(activity)
        return activity
    }

    /// Whether a step of this activity is under way, further down.
    func isUnderWay(_ name: String) -> Bool { activities.contains { $0.name == name && $0.isUnderWay } }

    /// Makes one step of one activity, or lets time pass until there is one; false when nothing will ever happen by itself.
    @discardableResult
    func advance() -> Bool {
        now += Int64(generator.below(SimulatedScheduler.turnMax))
        activities.removeAll(where: \.hasEnded)
        var due: [SimulatedActivity] = []
        var next: Int64?
        for activity in activities where !activity.isUnderWay {
            guard let time = activity.dueTime else { continue }
            if time <= now { due.append(activity) } else { next = min(next ?? time, time) }
        }
        if due.isEmpty {
            guard let next else { return false }
            now = next
        } else {
            due[generator.below(due.count)].makeStep()
        }
        return true
    }

    /// Keeps an activity from its next step for some time.
    func stall(_ name: String, nanoseconds: Int64) {
        for activity in activities where activity.name == name { activity.stalledUntil = now + nanoseconds }
    }

    func endStalls() { for activity in activities { activity.stalledUntil = 0 } }

    /// More turns than any activity needs to end.
    private static let turnsMax = 50_000

    fileprivate func waitForEnd(of activity: SimulatedActivity, nanoseconds: Int64) -> Bool {
        guard !activity.isUnderWay else { return true }
        let deadline = now + nanoseconds
        for _ in 0..<SimulatedScheduler.turnsMax {
            if activity.hasEnded { return true }
            if now >= deadline { return false }
            turn()
        }
        complain("\(activity.name) does not end")
        return false
    }
}

/// One activity: what it waits for, and whether it is kept from going on.
final class SimulatedActivity: PipelineActivityRun, @unchecked Sendable {
    let name: String
    private unowned let scheduler: SimulatedScheduler
    private let wake: WakeSignal
    private var step: (() -> NextStep)?
    private var next = NextStep.atOnce
    private(set) var isUnderWay = false
    var stalledUntil: Int64 = 0

    init(_ scheduler: SimulatedScheduler, _ name: String, _ wake: WakeSignal, _ step: @escaping () -> NextStep) {
        self.scheduler = scheduler
        self.name = name
        self.wake = wake
        self.step = step
    }

    var hasEnded: Bool { step == nil }

    /// When it can go on; nil: when somebody wakes it.
    var dueTime: Int64? {
        switch next {
        case .atOnce: stalledUntil
        case .wait(let ticket, let until): wake.ticket != ticket ? stalledUntil : until.map { max($0, stalledUntil) }
        case .end: nil
        }
    }

    func makeStep() {
        guard let step, !isUnderWay else { return }
        isUnderWay = true
        next = step()
        isUnderWay = false
        if next == .end { self.step = nil }
    }

    func join(withinNanoseconds limit: Int64) -> Bool { scheduler.waitForEnd(of: self, nanoseconds: limit) }
    func leave() {}
}
