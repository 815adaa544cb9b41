@testable import Store

/// Pages told by a number: 0 is zeros, even ones are compressible.
enum PageContents {
    static func bytes(_ seed: UInt64) -> [UInt8] {
        guard seed != 0 else { return [UInt8](repeating: 0, count: StoreFormat.blockBytes) }
        var words = [UInt64](repeating: seed, count: StoreFormat.blockBytes / 8)
        if seed % 2 == 1 {
            var value = seed
            for index in words.indices {
                value = value &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                words[index] = value ^ value >> 29
            }
        }
        return words.withUnsafeBytes { [UInt8]($0) }
    }

    /// Adds pages by their contents' numbers.
    static func add(_ pages: [(key: PageKey, seed: UInt64)], to writer: StreamWriter, retained: Bool = false) throws {
        var bytes: [UInt8] = []
        for page in pages { bytes += self.bytes(page.seed) }
        // Retained pages have to stay until the epoch is closed, after this call: here they stay for good.
        let base = UnsafeMutableRawPointer.allocate(byteCount: max(1, bytes.count), alignment: StoreFormat.blockBytes)
        defer { if !retained { base.deallocate() } }
        bytes.withUnsafeBytes { if let source = $0.baseAddress { base.copyMemory(from: source, byteCount: $0.count) } }
        try writer.add(pages.enumerated().map { PageInput(key: $1.key, bytes: base + $0 * StoreFormat.blockBytes) }, retained: retained)
    }

    static func read(_ key: PageKey, from reader: CheckpointReader) throws -> [UInt8] {
        var page = [UInt8](repeating: 0xEE, count: StoreFormat.blockBytes)
        try page.withUnsafeMutableBytes { try reader.read(key, into: $0) }
        return page
    }
}

extension StreamWriter {
    @discardableResult
    func close(bytes: [UInt8] = [], name: String = "", time: UInt64 = 1) throws(StoreError) -> EpochStatistics {
        try bytes.withUnsafeBytes { buffer in Result { () throws(StoreError) in try close(state: buffer, name: name, time: time) } }
            .get().statistics
    }
}
