public import AuroraVMM
public import Store

/// The pages of one map of a checkpoint in the store, as a machine or a volume fetches them: checked, each when it is needed.
public final class CheckpointPages: PageSource {
    private let reader: CheckpointReader
    private let map: UInt16

    /// Pages of memory (map 0) or of a volume (1 and on).
    public init(_ reader: CheckpointReader, map: UInt16) {
        self.reader = reader
        self.map = map
    }

    /// Whether anything is stored for the page.
    ///
    /// A table that cannot be read does not make a page zero: it is there, and reading it says what is wrong.
    public func has(_ page: Int) -> Bool {
        guard let number = UInt64(exactly: page), let key = Store::PageKey(map: map, page: number) else { return false }
        do { return try reader.locate(key) != nil } catch { return true }
    }

    /// Reads neighbouring pages, each compared with its checksum.
    ///
    /// - Throws: `PageSourceError` for damage and failures of the disk.
    public func read(page: Int, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        guard let number = UInt64(exactly: page), let key = Store::PageKey(map: map, page: number), buffer.count >= count * pageBytes else {
            throw PageSourceError(page: page, reason: "there is no such page")
        }
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(count * pageBytes)])
        do throws(StoreError) { try reader.readRun(from: key, into: target) } catch {
            throw PageSourceError(page: page, reason: "\(error)")
        }
    }
}
