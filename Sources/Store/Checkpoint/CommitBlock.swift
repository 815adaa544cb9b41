/// The head of a checkpoint on the disk: one block, the first of what its epoch wrote.
///
/// It refers to everything else. Its checksum is taken with the store, the stream's sequence, the place and the predecessor's checksum
/// mixed in, so that a block from another store, place or time, and a successor of a commit that was replaced, is never taken for the
/// next one.
struct CommitBlock: Hashable, Sendable {
    /// "AUROCMT1", little-endian.
    static let magic: UInt64 = 0x3154_4D43_4F52_5541
    static let version: UInt16 = 1
    /// Bytes up to the variable part.
    static let fixedBytes = 320
    /// Tables a chain may have; more are merged before.
    static let chainMax = 48
    /// Bytes of the caller's statistics.
    static let statisticsBytesMax = 120
    /// The most a head can have; what is left of its block holds small things of the same epoch.
    static let headBytesMax =
        fixedBytes + StoreFormat.nameBytesMax + statisticsBytesMax + chainMax * TreeReference.byteCount

    /// Everything was flushed before the block was written: only the block itself needs to be checked after a crash.
    static let settledFlag: UInt32 = 1

    var stream: StreamIdentity
    /// Counts the commits of the stream, without gaps.
    var sequence: UInt64
    /// The checkpoint's number: the epoch, ascending.
    var number: UInt64
    /// The number of the checkpoint it was made upon; in `parentStream`.
    var parent: UInt64
    var parentStream: StreamIdentity
    /// Nanoseconds since 1970, by the caller's clock.
    var time: UInt64
    /// Where the block lies, and where its successor will.
    var offset: UInt64
    var next: UInt64
    /// Of the commit before; zeros for the first.
    var previous: Checksum
    /// The newest sequence known to be durable when this was written.
    var durableSequence: UInt64
    var flags: UInt32
    /// Pages the epoch brought (changed, zero ones too), of those stored anew, and bytes written for all of it.
    var pageCount: UInt64
    var newPageCount: UInt64
    var writtenBytes: UInt64
    var stateBytes: UInt64
    var state: TreeReference
    /// What the epoch itself brought: the same as the first table of the chain, unless that is a merge.
    var delta: TreeReference
    var name: String
    var statistics: [UInt8]
    /// Newest first.
    var chain: [TreeReference]

    /// The store's and the place's part of the checksum.
    static func seed(store: StoreIdentity, sequence: UInt64, offset: UInt64, previous: Checksum) -> UInt64 {
        var writer = ByteWriter(capacity: 48)
        writer.put(store.low)
        writer.put(store.high)
        writer.put(sequence)
        writer.put(offset)
        writer.put(previous)
        return writer.bytes.withUnsafeBytes { Checksum(of: $0).low }
    }

    /// The bytes, checksum included, and the checksum.
    func encode(store: StoreIdentity) -> (bytes: [UInt8], checksum: Checksum) {
        let nameBytes = Array(name.utf8)
        precondition(chain.count <= Self.chainMax && nameBytes.count <= StoreFormat.nameBytesMax)
        precondition(statistics.count <= Self.statisticsBytesMax)
        var writer = ByteWriter(capacity: Self.headBytesMax)
        writer.put(Self.magic)
        writer.put(Self.version)
        writer.put(UInt16(Self.fixedBytes + nameBytes.count + statistics.count + chain.count * TreeReference.byteCount))
        writer.put(flags)
        writer.put(Checksum(low: 0, high: 0))
        writer.put(previous)
        for field in [stream.low, stream.high, sequence, number, parent, parentStream.low, parentStream.high, time] { writer.put(field) }
        for field in [offset, next, durableSequence, pageCount, newPageCount, writtenBytes, stateBytes] { writer.put(field) }
        state.encode(to: &writer)
        delta.encode(to: &writer)
        writer.put(UInt16(nameBytes.count))
        writer.put(UInt16(statistics.count))
        writer.put(UInt16(chain.count))
        writer.pad(to: Self.fixedBytes)
        writer.put(bytes: nameBytes)
        writer.put(bytes: statistics)
        for table in chain { table.encode(to: &writer) }
        let seed = Self.seed(store: store, sequence: sequence, offset: offset, previous: previous)
        let checksum = writer.bytes.withUnsafeBytes { Checksum(of: $0, seed: seed) }
        writer.replace(at: Self.checksumOffset, with: checksum)
        return (writer.bytes, checksum)
    }

    private static let checksumOffset = 16
}

extension CommitBlock {
    /// What a reader knows of a commit before it reads it.
    struct Expectation {
        var store: StoreIdentity
        var stream: StreamIdentity
        var sequence: UInt64
        var offset: UInt64
        /// Where the log is followed: the predecessor's checksum.
        var previous: Checksum?
        /// Where an entry of the history refers to it: its own checksum.
        var checksum: Checksum?
    }

    /// Checks and decodes a block.
    ///
    /// - Throws: `StoreError.damaged`, also for a block that is simply not the expected one.
    static func decode(_ block: UnsafeRawBufferPointer, expecting wanted: Expectation) throws(StoreError) -> (CommitBlock, Checksum) {
        var reader = ByteReader(block, what: "commit block", place: wanted.offset)
        guard try reader.take(UInt64.self) == magic else { throw reader.damage("there is none") }
        let version = try reader.take(UInt16.self)
        let headBytes = Int(try reader.take(UInt16.self))
        guard headBytes >= fixedBytes, headBytes <= block.count else { throw reader.damage("it says it has \(headBytes) bytes") }
        let flags: UInt32 = try reader.take()
        let checksum = try reader.takeChecksum()
        let previous = try reader.takeChecksum()
        let seed = seed(store: wanted.store, sequence: wanted.sequence, offset: wanted.offset, previous: previous)
        guard self.checksum(of: UnsafeRawBufferPointer(rebasing: block[..<headBytes]), seed: seed) == checksum else {
            throw reader.damage("its checksum is wrong")
        }
        // Only now: a newer version keeps the beginning as it is, and only a whole block can tell its version.
        guard version == Self.version else {
            throw .unsupported(
                what: "a checkpoint", store: "", reason: "its version is \(version), this program knows \(Self.version): use a newer one")
        }
        if let expected = wanted.previous, expected != previous { throw reader.damage("it follows another commit") }
        if let expected = wanted.checksum, expected != checksum { throw reader.damage("it is another one than the history says") }
        let block = try decodeFields(&reader, flags: flags, previous: previous)
        guard block.stream == wanted.stream, block.sequence == wanted.sequence, block.offset == wanted.offset else {
            throw reader.damage("it belongs to another stream or place")
        }
        return (block, checksum)
    }

    /// The newest sequence that a commit block of a stream knew to be durable; nil for bytes that are none.
    static func knownDurable(
        _ block: UnsafeRawBufferPointer, store: StoreIdentity, stream: StreamIdentity, offset: UInt64
    ) -> UInt64? {
        guard block.count > fixedBytes, UInt64(littleEndian: block.loadUnaligned(as: UInt64.self)) == magic else { return nil }
        let sequence = UInt64(littleEndian: block.loadUnaligned(fromByteOffset: sequenceOffset, as: UInt64.self))
        let wanted = Expectation(store: store, stream: stream, sequence: sequence, offset: offset, previous: nil, checksum: nil)
        do throws(StoreError) { return try decode(block, expecting: wanted).0.durableSequence } catch { return nil }
    }

    /// The stream that a block says it is a commit of, unchecked; nil for bytes that do not begin like one.
    static func stream(of block: UnsafeRawBufferPointer) -> StreamIdentity? {
        guard block.count > fixedBytes, UInt64(littleEndian: block.loadUnaligned(as: UInt64.self)) == magic else { return nil }
        return StreamIdentity(
            low: UInt64(littleEndian: block.loadUnaligned(fromByteOffset: streamOffset, as: UInt64.self)),
            high: UInt64(littleEndian: block.loadUnaligned(fromByteOffset: streamOffset + 8, as: UInt64.self)))
    }

    private static let streamOffset = 48
    private static let sequenceOffset = 64

    /// The checksum with its own field taken as zeros.
    private static func checksum(of head: UnsafeRawBufferPointer, seed: UInt64) -> Checksum {
        withUnsafeTemporaryAllocation(byteCount: head.count, alignment: 64) { copy in
            copy.copyMemory(from: head)
            copy.storeBytes(of: 0, toByteOffset: checksumOffset, as: UInt64.self)
            copy.storeBytes(of: 0, toByteOffset: checksumOffset + 8, as: UInt64.self)
            return Checksum(of: UnsafeRawBufferPointer(copy), seed: seed)
        }
    }

    private static func decodeFields(
        _ reader: inout ByteReader, flags: UInt32, previous: Checksum
    ) throws(StoreError) -> CommitBlock {
        var fields: [UInt64] = []
        for _ in 0..<15 { fields.append(try reader.take()) }
        let state = try TreeReference(from: &reader)
        let delta = try TreeReference(from: &reader)
        let nameCount = Int(try reader.take(UInt16.self))
        let statisticsCount = Int(try reader.take(UInt16.self))
        let chainCount = Int(try reader.take(UInt16.self))
        try reader.skipZeros(fixedBytes - reader.offset)
        guard statisticsCount <= statisticsBytesMax else { throw reader.damage("\(statisticsCount) bytes of statistics") }
        guard chainCount <= chainMax else { throw reader.damage("a chain of \(chainCount) tables") }
        let name = try reader.takeName(count: nameCount)
        let statistics = try reader.take(count: statisticsCount)
        var chain: [TreeReference] = []
        for _ in 0..<chainCount { chain.append(try TreeReference(from: &reader)) }
        return CommitBlock(
            stream: StreamIdentity(low: fields[0], high: fields[1]), sequence: fields[2], number: fields[3], parent: fields[4],
            parentStream: StreamIdentity(low: fields[5], high: fields[6]), time: fields[7], offset: fields[8], next: fields[9],
            previous: previous, durableSequence: fields[10], flags: flags, pageCount: fields[11], newPageCount: fields[12],
            writtenBytes: fields[13], stateBytes: fields[14], state: state, delta: delta, name: name, statistics: statistics, chain: chain)
    }
}
