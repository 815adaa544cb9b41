import CAgent

/// Lists directories with getdents64(2).
enum Directories {
    private static let bufferBytes = 32_768
    private static let headerBytes = 19

    /// The names in an open directory, without `.` and `..`, at most `limit`.
    static func names(_ directory: borrowing Descriptor, limit: Int) -> [Text] {
        var names: [Text] = []
        var buffer = [UInt8](repeating: 0, count: bufferBytes)
        while names.count < limit {
            let got = buffer.withUnsafeMutableBytes { sys_getdents(directory.number, $0.baseAddress, $0.count) }
            guard got > 0 else { break }
            // linux_dirent64: inode (8), offset (8), record length (2), type (1), name.
            var start = 0
            while start + headerBytes < got {
                let length = Int(buffer[start + 16]) | Int(buffer[start + 17]) << 8
                guard length > headerBytes, start + length <= got else { break }
                let name = Text(buffer[(start + headerBytes)..<(start + length)].prefix { $0 != 0 })
                if name != ".", name != "..", names.count < limit { names.append(name) }
                start += length
            }
        }
        return names
    }

    /// The names of a directory that are numbers, in ascending order.
    static func numbers(_ directory: borrowing Descriptor, limit: Int) -> [Int32] {
        var numbers: [Int32] = []
        for name in names(directory, limit: limit) {
            var scanner = TextScanner(name.bytes)
            if let value = scanner.unsigned(), scanner.isAtEnd, let number = Int32(exactly: value) { numbers.append(number) }
        }
        numbers.sort()
        return numbers
    }

    /// Opens a directory.
    static func open(_ path: Text) -> Descriptor? {
        Descriptor(result: withCString(path) { sys_open($0, O_RDONLY | O_DIRECTORY, 0) })
    }
}
