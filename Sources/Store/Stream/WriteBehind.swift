internal import Glibc
internal import Linux
import Synchronization

/// Blocks on their way to the disk while the next ones are being filled: one batch at a time.
final class WriteBehind {
    /// Neighbouring blocks.
    struct Run {
        let offset: UInt64
        let parts: [UnsafeRawBufferPointer]
    }

    /// What a thread is to write.
    ///
    /// `@unchecked Sendable`: whoever started it leaves the bytes alone until it has landed.
    private final class Batch: @unchecked Sendable {
        private let disk: any Disk
        private let runs: [Run]
        private let isCached: Bool
        private let failure = Mutex<DiskError?>(nil)
        private let hasBegun = Atomic(false)

        init(_ disk: any Disk, _ runs: [Run], isCached: Bool) {
            self.disk = disk
            self.runs = runs
            self.isCached = isCached
        }

        func write() {
            hasBegun.store(true, ordering: .relaxed)
            do throws(DiskError) {
                for run in runs {
                    if isCached { try disk.write(run.parts, at: run.offset) } else { try disk.writePastCache(run.parts, at: run.offset) }
                }
            } catch {
                failure.withLock { $0 = error }
            }
        }

        /// Lets the thread that writes begin.
        ///
        /// A new thread often waits on the processor of the one that made it; the disk would idle until that one waits for it.
        func giveWay() {
            var tries = 0
            while !hasBegun.load(ordering: .relaxed), tries < Self.triesMax {
                sched_yield()
                tries += 1
            }
        }

        private static let triesMax = 100

        var outcome: DiskError? { failure.withLock { $0 } }
    }

    private let disk: any Disk
    private var underWay: (batch: Batch, thread: Thread?)?

    init(_ disk: any Disk) { self.disk = disk }

    // The kernel must not read from buffers that are freed: a disk that does not answer holds the thread that writes a history, for which
    // nobody waits without a bound (`EpochPipeline.detach`, `Turn`).
    deinit { underWay?.thread?.join() }

    /// Begins to write; the bytes stay as they are until `land` has returned.
    ///
    /// On a disk that wants its operations one after the other, and where there is no room for a thread, `land` writes.
    func start(_ runs: [Run], isCached: Bool) {
        precondition(underWay == nil, "a batch was started before the one before it had landed")
        let batch = Batch(disk, runs, isCached: isCached)
        let thread = disk.isConcurrent ? try? Thread(name: "store-write", { batch.write() }) : nil
        underWay = (batch, thread)
        if thread != nil { batch.giveWay() }
    }

    /// Waits until the batch is written, if there is one.
    ///
    /// - Throws: `DiskError`; then any part of it may have been written.
    func land() throws(DiskError) {
        guard let (batch, thread) = underWay else { return }
        underWay = nil
        if let thread { thread.join() } else { batch.write() }
        if let failure = batch.outcome { throw failure }
    }
}
