/// Where a stream's log is entered: its history up to some commit, in one block.
struct Anchor: Hashable, Sendable {
    /// "AUROANC1", little-endian.
    static let magic: UInt64 = 0x3143_4E41_4F52_5541
    static let version: UInt16 = 1
    /// Bytes of the caller's labels.
    static let labelBytesMax = 1024
    private static let fixedBytes = 256

    var stream: StreamIdentity
    /// Nanoseconds since 1970.
    var created: UInt64
    /// The stream and checkpoint this one was cloned from; zeros for none.
    var originStream: StreamIdentity
    var originNumber: UInt64
    /// The last commit the anchor knows (zeros: none), and where the one after it will be.
    var lastSequence: UInt64
    var lastNumber: UInt64
    var lastChecksum: Checksum
    var lastOffset: UInt64
    var next: UInt64
    /// Pages of entries: key = first number.
    var history: TreeReference
    var entryCount: UInt64
    /// Names: key = number.
    var names: TreeReference
    /// What the caller wants to remember: kind, owner.
    var labels: [UInt8]

    func encode() -> [UInt8] {
        precondition(labels.count <= Self.labelBytesMax)
        var writer = ByteWriter(capacity: Self.fixedBytes + labels.count)
        writer.put(Self.magic)
        writer.put(Self.version)
        writer.put(UInt16(labels.count))
        writer.put(UInt32(0))
        for field in [stream.low, stream.high, created, originStream.low, originStream.high, originNumber] { writer.put(field) }
        for field in [lastSequence, lastNumber, lastChecksum.low, lastChecksum.high, lastOffset, next, entryCount] { writer.put(field) }
        history.encode(to: &writer)
        names.encode(to: &writer)
        writer.pad(to: Self.fixedBytes)
        writer.put(bytes: labels)
        return writer.bytes
    }

    /// Decodes bytes whose checksum (in the slot) has been verified.
    ///
    /// - Parameter stream: the one the slot names.
    init(_ bytes: UnsafeRawBufferPointer, stream wanted: StreamIdentity, place: UInt64) throws(StoreError) {
        var reader = ByteReader(bytes, what: "anchor", place: place)
        guard try reader.take(UInt64.self) == Self.magic else { throw reader.damage("there is none") }
        let version = try reader.take(UInt16.self)
        guard version == Self.version else {
            throw .unsupported(
                what: "a stream", store: "", reason: "its version is \(version), this program knows \(Self.version): use a newer one")
        }
        let labelCount = Int(try reader.take(UInt16.self))
        try reader.skipZeros(4)
        var fields: [UInt64] = []
        for _ in 0..<13 { fields.append(try reader.take()) }
        history = try TreeReference(from: &reader)
        names = try TreeReference(from: &reader)
        try reader.skipZeros(Self.fixedBytes - reader.offset)
        guard labelCount <= Self.labelBytesMax else { throw reader.damage("\(labelCount) bytes of labels") }
        labels = try reader.take(count: labelCount)
        stream = StreamIdentity(low: fields[0], high: fields[1])
        created = fields[2]
        originStream = StreamIdentity(low: fields[3], high: fields[4])
        originNumber = fields[5]
        lastSequence = fields[6]
        lastNumber = fields[7]
        lastChecksum = Checksum(low: fields[8], high: fields[9])
        lastOffset = fields[10]
        next = fields[11]
        entryCount = fields[12]
        guard stream == wanted else { throw reader.damage("it belongs to another stream") }
        guard next % UInt64(StoreFormat.blockBytes) == 0, next != 0 else { throw reader.damage("its log goes on at byte \(next)") }
    }

    init(stream: StreamIdentity, created: UInt64, next: UInt64, labels: [UInt8]) {
        self.stream = stream
        self.created = created
        self.next = next
        self.labels = labels
        originStream = StreamIdentity(low: 0, high: 0)
        originNumber = 0
        lastSequence = 0
        lastNumber = 0
        lastChecksum = Checksum(low: 0, high: 0)
        lastOffset = 0
        history = .empty
        entryCount = 0
        names = .empty
    }
}
