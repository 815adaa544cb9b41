import AuroraVMM
import Groups
import Linux
import Synchronization

/// Uses the working set that earlier restores from a history left, and leaves one for later ones.
final class WorkingSetKeeper: Sendable {
    /// How long a guest is watched after it went on: it has answered by then, and what it does later is another matter.
    private static let watched = Duration.milliseconds(500)
    /// Pages around a touched one that are fetched when most of what will be touched is known.
    private static let readAheadPages = 4

    private let files: [WorkingSetFile]
    private let known: [UInt32]
    private let isLeft = Mutex(false)

    /// Reads what is known of the first stream that there is anything of; what is learned is left for all.
    init(of streams: [String], in data: DataDirectory) {
        var seen: Set<String> = []
        files = streams.filter { seen.insert($0).inserted }.map { WorkingSetFile(of: $0, in: data) }
        known = files.lazy.map { $0.read() }.first { !$0.isEmpty } ?? []
    }

    /// How the memory is to be filled.
    var policy: LazyPolicy {
        var policy = LazyPolicy()
        guard !known.isEmpty else { return policy }
        policy.pagesAhead = known
        policy.readAheadPages = WorkingSetKeeper.readAheadPages
        return policy
    }

    /// The guest runs.
    func begin(_ machine: Machine) {
        guard machine.memory.lazy != nil else { return }
        Task.detached { [weak self, weak machine] in
            try? await Task.sleep(for: WorkingSetKeeper.watched)
            if let machine { self?.leave(machine) }
        }
    }

    /// Writes down what the guest touched, once.
    ///
    /// To be called before the machine is stopped: a guest that ran shortly has touched something, too.
    func leave(_ machine: Machine) {
        let wasLeft = isLeft.withLock { isLeft in
            defer { isLeft = true }
            return isLeft
        }
        guard !wasLeft, let lazy = machine.memory.lazy else { return }
        let pages = WorkingSetFile.merge(known, touched: lazy.workingSet)
        guard pages.count > known.count else { return }
        for file in files {
            do throws(SystemError) { try file.write(pages) } catch {
                EngineMessage.write("Cannot write down what to fetch ahead next time: \(error)")
            }
        }
    }
}
