@testable import Functions

/// Makes ZIP archives, right ones and others.
struct ZipMaker {
    struct Entry {
        var name: String
        var contents: [UInt8] = []
        /// Type and permissions, as Unix has them.
        var mode = 0o100644
        /// Written as a deflate stream (which packs nothing).
        var isPacked = false
        var flags = 0
        var method: Int?
        /// What the directory says instead of the truth.
        var claimedBytes: Int?
        /// The name before the contents, when it is another one.
        var localName: String?
        /// Sizes after the contents, as writers to a pipe have it.
        var hasDescriptor = false
        /// Sizes and place in an extra field of 64 bits.
        var isLong = false

        init(_ name: String, _ contents: String = "", mode: Int = 0o100644, _ change: (inout Entry) -> Void = { _ in }) {
            self.name = name
            self.contents = Array(contents.utf8)
            self.mode = mode
            change(&self)
        }
    }

    /// An archive of one file.
    static func code(_ contents: String) -> [UInt8] { archive([Entry("app.py", contents)]) }

    static func archive(_ entries: [Entry], isLong: Bool = false, comment: String = "") -> [UInt8] {
        var bytes: [UInt8] = []
        var directory: [UInt8] = []
        for entry in entries { add(entry, to: &bytes, &directory) }
        let start = bytes.count
        bytes += directory
        if isLong {
            let record = bytes.count
            bytes += number(0x0606_4b50, 4) + number(44, 8) + number(0x031e, 2) + number(45, 2) + number(0, 4) + number(0, 4)
            bytes += number(entries.count, 8) + number(entries.count, 8) + number(directory.count, 8) + number(start, 8)
            bytes += number(0x0706_4b50, 4) + number(0, 4) + number(record, 8) + number(1, 4)
        }
        let count = isLong ? 0xffff : entries.count
        bytes += number(0x0605_4b50, 4) + number(0, 2) + number(0, 2) + number(count, 2) + number(count, 2)
        bytes += number(isLong ? 0xffff_ffff : directory.count, 4) + number(isLong ? 0xffff_ffff : start, 4)
        return bytes + number(comment.utf8.count, 2) + Array(comment.utf8)
    }

    private static func add(_ entry: Entry, to bytes: inout [UInt8], _ directory: inout [UInt8]) {
        let place = bytes.count
        let checksum = number(Int(CRC32.gzip.checksum(entry.contents)), 4)
        let packed = entry.isPacked ? deflated(entry.contents) : entry.contents
        let size = entry.claimedBytes ?? entry.contents.count
        let flags = entry.flags | (entry.hasDescriptor ? 8 : 0)
        let method = entry.method ?? (entry.isPacked ? 8 : 0)
        let common = number(flags, 2) + number(method, 2) + number(0x6000, 2) + number(0x5a21, 2)
        let sizes = checksum + number(packed.count, 4) + number(size, 4)
        let local = Array((entry.localName ?? entry.name).utf8)
        bytes += number(0x0403_4b50, 4) + number(45, 2) + common + (entry.hasDescriptor ? [UInt8](repeating: 0, count: 12) : sizes)
        bytes += number(local.count, 2) + number(0, 2) + local + packed
        if entry.hasDescriptor { bytes += number(0x0807_4b50, 4) + sizes }
        let name = Array(entry.name.utf8)
        let extra = number(1, 2) + number(24, 2) + number(size, 8) + number(packed.count, 8) + number(place, 8)
        directory += number(0x0201_4b50, 4) + number(0x031e, 2) + number(45, 2) + common + checksum
        directory += entry.isLong ? number(0xffff_ffff, 4) + number(0xffff_ffff, 4) : number(packed.count, 4) + number(size, 4)
        directory += number(name.count, 2) + number(entry.isLong ? extra.count : 0, 2) + number(0, 2) + number(0, 2) + number(0, 2)
        directory += number(entry.mode << 16, 4) + number(entry.isLong ? 0xffff_ffff : place, 4) + name
        if entry.isLong { directory += extra }
    }

    /// A deflate stream of one block that is not packed.
    private static func deflated(_ contents: [UInt8]) -> [UInt8] {
        [1] + number(contents.count, 2) + number(~contents.count & 0xffff, 2) + contents
    }

    static func number(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
}
