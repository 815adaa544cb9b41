internal import CLinux
import Linux

/// A disk (virtio 1.2, section 5.2).
///
/// Requests are carried out one after the other on the device's own loop, so none is under way when a handler has
/// returned. A long one takes several turns; who takes over a saved state begins it anew, which does no harm.
final class BlockDevice: VirtioDevice {
    typealias State = BlockState

    private static let queueSize: UInt16 = 256
    /// The block size told to the guest; file systems align to it.
    private static let blockBytes = 4096

    let type = VirtioDeviceType.block
    let queueSizeMaxima: [UInt16] = [BlockDevice.queueSize]
    let features: UInt64
    let configuration: [UInt8]
    /// What happened so far.
    private(set) var counters = BlockCounters()
    /// The host's last refusal, for logs; the guest sees an I/O error.
    private(set) var lastHostError: SystemError?

    private let backend: any BlockBackend
    private let serial: String
    private let chain = DescriptorChain()
    private var vectors = IOVectors()
    /// Bytes of the queue's next request that were carried out in earlier turns.
    private var progress = 0

    /// - Parameter serial: shown in the guest as the disk's serial; 20 bytes are kept.
    init(backend: any BlockBackend, serial: String) {
        self.backend = backend
        self.serial = serial
        var features = BlockFeature.segmentsMax | BlockFeature.blockSize | BlockFeature.topology | BlockFeature.flush
        features |= backend.isReadOnly ? BlockFeature.readOnly : BlockFeature.discard | BlockFeature.writeZeroes
        self.features = features
        configuration = Self.makeConfiguration(sectors: UInt64(backend.byteCount / BlockRequest.sectorBytes))
    }

    /// struct virtio_blk_config, section 5.2.4.
    private static func makeConfiguration(sectors: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: sectors)
        bytes.append(littleEndian: UInt32(0))  // size_max: not offered
        bytes.append(littleEndian: UInt32(queueSize) - 2)  // seg_max: header and status take a descriptor each
        bytes.append(littleEndian: UInt32(0))  // geometry: not offered
        bytes.append(littleEndian: UInt32(512))  // blk_size
        bytes.append(3)  // a physical block is 2^3 logical ones
        bytes.append(0)  // alignment offset
        bytes.append(littleEndian: UInt16(blockBytes / 512))  // smallest good request
        bytes.append(littleEndian: UInt32(0))  // best request: not told
        bytes.append(0)  // writeback: not offered
        bytes.append(0)
        bytes.append(littleEndian: UInt16(1))  // queues
        bytes.append(littleEndian: BlockRequest.segmentSectorsMax)  // discard
        bytes.append(littleEndian: UInt32(BlockRequest.segmentsMax))
        bytes.append(littleEndian: UInt32(blockBytes / 512))  // discard alignment
        bytes.append(littleEndian: BlockRequest.segmentSectorsMax)  // write zeroes
        bytes.append(littleEndian: UInt32(BlockRequest.segmentsMax))
        bytes.append(1)  // write zeroes may free
        bytes.append(contentsOf: [0, 0, 0])
        return bytes
    }

    func notified(queue: Int, _ link: DeviceLink) throws(VirtioError) {
        guard let requests = link.queue(queue) else { return }
        try link.serve(requests, with: chain) { chain throws(VirtioError) in try serve(chain, link.turn, queue: queue) }
    }

    /// Carries one request out; answers how many bytes of the guest were written, or nil when the turn ended first.
    private func serve(_ chain: DescriptorChain, _ turn: DeviceTurn, queue: Int) throws(VirtioError) -> Int? {
        guard let kind = chain.load(at: 0, as: UInt32.self), let sector = chain.load(at: 8, as: UInt64.self) else {
            throw .badRequest(queue: queue, what: "a block request has no header")
        }
        guard chain.writableCount >= 1 else { throw .badRequest(queue: queue, what: "a block request has no room for its status") }
        let room = chain.writableCount - 1
        var written = 0
        var status = BlockRequest.Status.ok
        do throws(BlockFailure) {
            guard let count = try perform(kind, sector: sector, room: room, turn) else { return nil }
            written = count
        } catch {
            status = error.status
            counters.failures += 1
            if case .host(let error) = error { lastHostError = error }
        }
        progress = 0
        chain.store(status.rawValue, at: room)
        return status == .ok && written == room ? written + 1 : chain.writableCount
    }

    private func perform(_ kind: UInt32, sector: UInt64, room: Int, _ turn: DeviceTurn) throws(BlockFailure) -> Int? {
        let body = chain.readableCount - BlockRequest.headerBytes
        switch BlockRequest.Kind(rawValue: kind) {
        case .read: return try read(sector, room, turn)
        case .write: return try write(sector, body, turn)
        case .flush: return try flush()
        case .identify: return identify(room)
        case .discard:
            return try segments(body, turn) { offset, count, _ throws(SystemError) in try backend.discard(at: offset, count: count) }
        case .writeZeroes:
            return try segments(body, turn) { offset, count, flags throws(SystemError) in
                try backend.writeZeroes(at: offset, count: count, mayFree: flags & BlockRequest.unmapFlag != 0)
            }
        case nil: throw .unsupported
        }
    }

    // MARK: - Requests

    private func read(_ sector: UInt64, _ count: Int, _ turn: DeviceTurn) throws(BlockFailure) -> Int? {
        let offset = try range(sector, count)
        let isWhole = try inPieces(count, turn) { start, length throws(BlockFailure) in
            _ = chain.fill(&vectors, writable: true, from: start, limit: length)
            defer { chain.markWritten(from: start, count: length) }
            try host { () throws(SystemError) in try backend.read(vectors, at: offset + Int64(start)) }
        }
        guard isWhole else { return nil }
        counters.reads += 1
        counters.bytesRead += count
        return count
    }

    private func write(_ sector: UInt64, _ count: Int, _ turn: DeviceTurn) throws(BlockFailure) -> Int? {
        guard !backend.isReadOnly else { throw .refused }
        let offset = try range(sector, count)
        let isWhole = try inPieces(count, turn) { start, length throws(BlockFailure) in
            _ = chain.fill(&vectors, writable: false, from: BlockRequest.headerBytes + start, limit: length)
            try host { () throws(SystemError) in try backend.write(vectors, at: offset + Int64(start)) }
        }
        guard isWhole else { return nil }
        counters.writes += 1
        counters.bytesWritten += count
        return 0
    }

    /// Carries out what is left of `count` bytes, at least a piece; false when the turn is over first.
    private func inPieces(
        _ count: Int, _ turn: DeviceTurn, _ body: (_ start: Int, _ length: Int) throws(BlockFailure) -> Void
    ) throws(BlockFailure) -> Bool {
        while progress < count {
            let length = min(count - progress, DeviceTurn.pieceBytesMax)
            try body(progress, length)
            progress += length
            turn.spend(length)
            if turn.isOver { return progress >= count }
        }
        return true
    }

    private func flush() throws(BlockFailure) -> Int {
        if !backend.isReadOnly { try host { () throws(SystemError) in try backend.flush() } }
        counters.flushes += 1
        return 0
    }

    private func identify(_ room: Int) -> Int {
        var name = Array(serial.utf8.prefix(BlockRequest.identifierBytes))
        name.append(contentsOf: repeatElement(0, count: BlockRequest.identifierBytes - name.count))
        return name.withUnsafeBytes { chain.write(at: 0, UnsafeRawBufferPointer(rebasing: $0[..<min(room, $0.count)])) }
    }

    /// Applies a discard or write-zeroes request segment by segment, each in pieces.
    private func segments(
        _ body: Int, _ turn: DeviceTurn, _ apply: (Int64, Int64, UInt32) throws(SystemError) -> Void
    ) throws(BlockFailure) -> Int? {
        guard !backend.isReadOnly else { throw .refused }
        let size = BlockRequest.segmentBytes
        guard body > 0, body % size == 0, body / size <= BlockRequest.segmentsMax else { throw .refused }
        // Bytes of the segments before the one that is looked at.
        var before = 0
        for start in stride(from: BlockRequest.headerBytes, to: BlockRequest.headerBytes + body, by: size) {
            guard let first = chain.load(at: start, as: UInt64.self), let sectors = chain.load(at: start + 8, as: UInt32.self),
                let flags = chain.load(at: start + 12, as: UInt32.self)
            else { throw .refused }
            guard flags & ~BlockRequest.unmapFlag == 0 else { throw .unsupported }
            guard sectors <= BlockRequest.segmentSectorsMax else { throw .refused }
            let count = Int(sectors) * Int(BlockRequest.sectorBytes)
            let offset = try range(first, count)
            while progress < before + count {
                let place = offset + Int64(progress - before)
                // To a multiple of the piece: a boundary within a block would cost the block.
                let length = min(Int64(before + count - progress), BlockRequest.pieceBytes - place % BlockRequest.pieceBytes)
                try host { () throws(SystemError) in try apply(place, length, flags) }
                progress += Int(length)
                turn.spend(Int(length) / BlockRequest.clearedByteShare)
                if turn.isOver, progress < before + count || start + size < BlockRequest.headerBytes + body { return nil }
            }
            before += count
        }
        return 0
    }

    /// The byte offset of a range of whole sectors inside the disk.
    private func range(_ sector: UInt64, _ count: Int) throws(BlockFailure) -> Int64 {
        let total = UInt64(backend.byteCount / BlockRequest.sectorBytes)
        guard count >= 0, count % Int(BlockRequest.sectorBytes) == 0, sector <= total,
            UInt64(count) / UInt64(BlockRequest.sectorBytes) <= total - sector
        else { throw .refused }
        return Int64(sector) * BlockRequest.sectorBytes
    }

    private func host(_ body: () throws(SystemError) -> Void) throws(BlockFailure) {
        do throws(SystemError) { try body() } catch { throw .host(error) }
    }

    // MARK: - State

    func reset(_ link: DeviceLink) { progress = 0 }

    func save() -> State { State(byteCount: backend.byteCount, isReadOnly: backend.isReadOnly, serial: serial) }

    func load(_ state: State) throws(DeviceStateError) {
        guard state.byteCount == backend.byteCount else {
            throw DeviceStateError(device: "block", reason: "its disk has \(state.byteCount) bytes, this one \(backend.byteCount)")
        }
        guard state.isReadOnly == backend.isReadOnly else {
            throw DeviceStateError(device: "block", reason: "its disk is \(state.isReadOnly ? "" : "not ")read-only")
        }
    }

    static func wrap(_ state: TransportState<State>) -> VirtioDeviceState { .block(state) }
    static func unwrap(_ state: VirtioDeviceState) -> TransportState<State>? {
        if case .block(let state) = state { state } else { nil }
    }
}

/// Why a single request failed; the disk goes on.
private enum BlockFailure: Error {
    case refused
    case unsupported
    case host(SystemError)

    var status: BlockRequest.Status {
        switch self {
        case .refused, .host: .failed
        case .unsupported: .unsupported
        }
    }
}
