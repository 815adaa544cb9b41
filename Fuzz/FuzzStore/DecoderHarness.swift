@testable import Store

/// Runs one decoder on bytes, and what it decoded through its encoder again: the two must agree.
enum DecoderHarness {
    private static let identity = StoreIdentity(low: 1, high: 2)
    private static let place: UInt64 = 1 << 20

    /// A sector of these bytes with the checksum that belongs to it.
    private static func sector(_ bytes: [UInt8], _ kind: Sector.Kind, _ identity: StoreIdentity, at offset: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.put(bytes: Array(bytes.prefix(Sector.payloadBytes)))
        return Sector.seal(writer, seed: Sector.seed(kind, identity, at: offset))
    }

    static func superblock(_ bytes: [UInt8]) {
        let none = StoreIdentity(low: 0, high: 0)
        let sector = sector(bytes, .superblock, none, at: StoreLayout.superblockOffsets[0])
        sector.withUnsafeBytes { buffer in
            guard let found = try? Superblock(buffer, copy: 0, store: "fuzzed") else { return }
            precondition(found.layout.endOffset <= StoreLayout.bytesMax)
            precondition(found.layout.dataOffset < found.layout.endOffset)
        }
        bytes.withUnsafeBytes { _ = try? Superblock($0, copy: 1, store: "fuzzed") }
    }

    static func slot(_ bytes: [UInt8]) {
        sector(bytes, .slot, identity, at: place).withUnsafeBytes { buffer in
            guard let found = try? SlotSector.decode(buffer, identity: identity, at: place) else { return }
            let again = found.encode(identity: identity, at: place)
            let second = again.withUnsafeBytes { try? SlotSector.decode($0, identity: identity, at: place) }
            precondition(second == found)
        }
    }

    static func segment(_ bytes: [UInt8]) {
        sector(bytes, .segment, identity, at: place).withUnsafeBytes { buffer in
            guard let found = try? SegmentEntry(buffer, identity: identity, at: place) else { return }
            var next = found.used.run(from: 0)
            var count = 0
            while let run = next {
                count += run.count
                next = found.used.run(from: run.upperBound)
            }
            precondition(count == found.used.setCount)
            let again = found.encode(identity: identity, at: place)
            let second = again.withUnsafeBytes { try? SegmentEntry($0, identity: identity, at: place) }
            precondition(second == found)
        }
    }

    static func stamp(_ bytes: [UInt8]) {
        sector(bytes, .stamp, identity, at: CollectionStamp.offset).withUnsafeBytes { buffer in
            let found = CollectionStamp.decode(buffer, identity: identity)
            guard found > CollectionStamp.damaged else { return }
            let again = CollectionStamp.encode(found, identity: identity)
            precondition(again.withUnsafeBytes { CollectionStamp.decode($0, identity: identity) } == found)
        }
    }

    static func anchor(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { buffer in
            let stream = StreamIdentity(
                low: buffer.count >= 32 ? buffer.loadUnaligned(fromByteOffset: 16, as: UInt64.self) : 0,
                high: buffer.count >= 32 ? buffer.loadUnaligned(fromByteOffset: 24, as: UInt64.self) : 0)
            guard let found = try? Anchor(buffer, stream: stream, place: place) else { return }
            precondition(found.labels.count <= Anchor.labelBytesMax)
            let again = found.encode()
            precondition(again.withUnsafeBytes { (try? Anchor($0, stream: stream, place: place)) == found })
        }
    }

    static func commit(_ bytes: [UInt8]) {
        var block = [UInt8](repeating: 0, count: StoreFormat.blockBytes)
        block.replaceSubrange(..<bytes.count, with: bytes)
        // The magic number, and sizes that the checksum can be taken over.
        withUnsafeBytes(of: CommitBlock.magic) { block.replaceSubrange(..<8, with: $0) }
        block.withUnsafeMutableBytes { buffer in
            let count = Int(buffer.loadUnaligned(fromByteOffset: 10, as: UInt16.self))
            func field(_ index: Int) -> UInt64 { buffer.loadUnaligned(fromByteOffset: 48 + 8 * index, as: UInt64.self) }
            let previous = Checksum(
                low: buffer.loadUnaligned(fromByteOffset: 32, as: UInt64.self),
                high: buffer.loadUnaligned(fromByteOffset: 40, as: UInt64.self))
            let wanted = CommitBlock.Expectation(
                store: identity, stream: StreamIdentity(low: field(0), high: field(1)), sequence: field(2), offset: field(8), previous: nil,
                checksum: nil)
            if count <= buffer.count {
                buffer.storeBytes(of: 0, toByteOffset: 16, as: UInt64.self)
                buffer.storeBytes(of: 0, toByteOffset: 24, as: UInt64.self)
                let seed = CommitBlock.seed(store: identity, sequence: wanted.sequence, offset: wanted.offset, previous: previous)
                let checksum = Checksum(of: UnsafeRawBufferPointer(rebasing: buffer[..<count]), seed: seed)
                buffer.storeBytes(of: checksum.low, toByteOffset: 16, as: UInt64.self)
                buffer.storeBytes(of: checksum.high, toByteOffset: 24, as: UInt64.self)
            }
            guard let (found, _) = try? CommitBlock.decode(UnsafeRawBufferPointer(buffer), expecting: wanted) else { return }
            precondition(found.chain.count <= CommitBlock.chainMax)
            let again = found.encode(store: identity)
            var other = again.bytes
            other += [UInt8](repeating: 0, count: StoreFormat.blockBytes - other.count)
            precondition(other.withUnsafeBytes { (try? CommitBlock.decode($0, expecting: wanted))?.0 == found })
        }
    }

    static func history(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { buffer in
            var reader = ByteReader(buffer, what: "history", place: place)
            while let entry = try? CheckpointEntry(from: &reader) { precondition(entry.statistics.count <= CommitBlock.statisticsBytesMax) }
            var other = ByteReader(buffer, what: "tree", place: place)
            while let tree = try? TreeReference(from: &other) { precondition(tree.height <= TreeReference.heightMax) }
        }
    }

    static func node(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { buffer in
            guard let node = try? TreeNode(buffer, place: place, lower: nil, upper: nil) else { return }
            for entry in node.entries {
                precondition(node.find(entry.key) == entry)
                guard let layout = StoreLayout(slotCount: 8, segmentCount: 16) else { continue }
                if let blocks = layout.blocks(of: entry.location) { precondition(blocks.upperBound < layout.blockCount) }
            }
        }
    }

    static func compressed(_ bytes: [UInt8]) {
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: StoreFormat.blockBytes, alignment: StoreFormat.blockBytes)
        defer { page.deallocate() }
        bytes.withUnsafeBytes { _ = Compression.decompress($0, into: page) }
    }
}
