internal import AuroraVMM
internal import CLinux

/// Hands all contents of a running group to a backend that has nothing yet, piece by piece.
///
/// Writes are being recorded: a page that changes while or after it is copied here is in an epoch that the backend gets
/// later. So the guest need not stand still, and the first epoch that begins its stop after the end of the scan is whole.
///
/// `@unchecked Sendable`: used by one backend's thread alone.
final class BaseScan: @unchecked Sendable {
    /// Pages of a piece: a MiB, or the eighth of a small pool.
    private static let piecePagesMax = 256

    private let memory: GuestMemory
    private let populated = PopulatedPages()
    private let backed: [Range<Int>]
    private let participants: [any EpochParticipant]
    private let pool: PagePool
    private let batch: PageBatch
    private let piecePages: Int
    private var page = 0
    private var participant = 0
    private var position = 0

    init(_ machine: any CheckpointableMachine, _ participants: [any EpochParticipant], pool: PagePool) {
        memory = machine.memory
        backed = machine.memory.backedPages
        self.participants = participants
        self.pool = pool
        batch = PageBatch(pool)
        piecePages = min(BaseScan.piecePagesMax, pool.chunkCount / 8 * PagePool.chunkPages)
    }

    /// What a call of `next` found.
    enum Piece {
        case pages(PageSet)
        /// The pool has no buffers to spare now.
        case none
        case end
    }

    /// The next pages.
    ///
    /// - Throws: `PipelineError.volume`.
    func next() throws(PipelineError) -> Piece {
        // Half of the pool is for the epochs.
        guard batch.reserve(piecePages, keeping: pool.usableChunks / 2) else { return .none }
        while page < memory.pageCount, batch.room > 0 { scanPage() }
        // A participant gets a whole piece: it must not have to wait for buffers that come back by this thread.
        while batch.count == 0, participant < participants.count { try scanParticipant() }
        if batch.count > 0 { return .pages(batch.takeAll()) }
        return .end
    }

    /// Gives the memory of its buffers back when all pages are at the backend.
    func giveBack() {
        pool.trim()
        pool.trim()
    }

    private func scanPage() {
        defer { page += 1 }
        guard populated.contains(memory.address(page: page)) || backed.contains(where: { $0.contains(page) }) else { return }
        // A page that is written after this look is reported, and belongs to a later epoch.
        if ZeroPage.matches(memory.address(page: page)) { return }
        guard let buffer = batch.add(PageKey(map: PageKey.memory, page: page)) else { return }
        memory.copy(page: page, to: buffer)
    }

    private func scanParticipant() throws(PipelineError) {
        let current = participants[participant]
        let sink = BatchSink(batch, map: current.map)
        do {
            if let next = try current.stream(from: position, pagesMax: min(batch.room, piecePages), into: sink) {
                position = next
            } else {
                position = 0
                participant += 1
            }
        } catch let error as PipelineError {
            throw error
        } catch { throw .volume(current.map, "\(error)") }
    }
}

/// Puts pages of a participant into a batch, as many as it has buffers for.
final class BatchSink: PageSink {
    /// Nil: nobody wants the pages.
    private let batch: PageBatch?
    private let map: Int
    /// Pages added.
    private(set) var count = 0

    init(_ batch: PageBatch?, map: Int) {
        self.batch = batch
        self.map = map
    }

    func add(page: Int, _ fill: (UnsafeMutableRawBufferPointer) throws -> Void) throws {
        guard page >= 0, page < PageKey.pagesMax else { throw PipelineError.volume(map, "it has no page \(page)") }
        guard let batch else { return }
        guard let buffer = batch.add(PageKey(map: map, page: page)) else {
            throw PipelineError.volume(map, "it has handed over more than the \(count) pages it was asked for")
        }
        try fill(UnsafeMutableRawBufferPointer(start: buffer, count: pageBytes))
        count += 1
    }
}
