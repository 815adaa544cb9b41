/// Which blocks an overlay holds, and which pages of that knowledge are not on the disk yet.
struct BlockBitmap {
    static let pageBytes = 4096

    private var bytes: [UInt8]
    private var changedPages: Set<Int> = []

    /// Takes a bitmap as it lies in the file, in whole pages.
    init(bytes: [UInt8]) {
        precondition(bytes.count % Self.pageBytes == 0)
        self.bytes = bytes
    }

    /// Whether the overlay holds a block.
    subscript(block: Int) -> Bool { bytes[block / 8] & (1 << UInt8(block % 8)) != 0 }

    mutating func insert(_ block: Int) {
        guard !self[block] else { return }
        bytes[block / 8] |= 1 << UInt8(block % 8)
        changedPages.insert(block / 8 / Self.pageBytes)
    }

    var hasChanges: Bool { !changedPages.isEmpty }

    /// Calls `body` with each page that differs from the file.
    func forEachChangedPage(_ body: (Int, UnsafeRawBufferPointer) -> Void) {
        bytes.withUnsafeBytes { all in
            for page in changedPages.sorted() {
                body(page, UnsafeRawBufferPointer(rebasing: all[page * Self.pageBytes..<(page + 1) * Self.pageBytes]))
            }
        }
    }

    mutating func didWriteChanges() { changedPages = [] }
}
