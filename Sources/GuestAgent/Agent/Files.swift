import CAgent

/// Runs `body` with the text as a C string.
func withCString<Result>(_ text: Text, _ body: (UnsafePointer<CChar>) -> Result) -> Result {
    var bytes = text.bytes
    bytes.append(0)
    return bytes.withUnsafeBytes { raw in
        body(raw.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: CChar.self))
    }
}

/// An open descriptor, closed when its owner goes away.
struct Descriptor: ~Copyable {
    private(set) var number: Int32

    init(_ number: Int32) { self.number = number }

    /// Takes a wrapper's result, or nil when it is an error.
    init?(result: Int) {
        guard result >= 0 else { return nil }
        number = Int32(truncatingIfNeeded: result)
    }

    deinit { if number >= 0 { _ = sys_close(number) } }

    /// Gives the number away.
    mutating func release() -> Int32 {
        defer { number = -1 }
        return number
    }
}

/// Small-file helpers.
///
/// Results are bounded: a file longer than the limit is cut off there.
enum Files {
    /// Reads what is left of a descriptor.
    static func read(_ descriptor: borrowing Descriptor, bytesMax: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < bytesMax {
            let wanted = min(bytesMax - bytes.count, 4096)
            let start = bytes.count
            bytes.append(contentsOf: repeatElement(0, count: wanted))
            let got = bytes.withUnsafeMutableBytes { sys_read(descriptor.number, $0.baseAddress.unsafelyUnwrapped + start, wanted) }
            bytes.removeLast(wanted - max(0, got))
            if got <= 0 { break }
        }
        return bytes
    }

    /// Reads a file, or nil when it cannot be opened.
    static func read(_ path: Text, bytesMax: Int) -> [UInt8]? {
        guard let file = Descriptor(result: withCString(path) { sys_open($0, O_RDONLY, 0) }) else { return nil }
        return read(file, bytesMax: bytesMax)
    }

    /// Replaces a file's contents; returns 0 or -errno.
    static func write(_ path: Text, _ contents: Text, create: Bool = true) -> Int {
        let flags = O_WRONLY | (create ? O_CREAT | O_TRUNC : 0)
        let opened = withCString(path) { sys_open($0, flags, 0o644) }
        guard let file = Descriptor(result: opened) else { return opened }
        var written = 0
        while written < contents.bytes.count {
            let count = contents.bytes.withUnsafeBytes {
                sys_write(file.number, $0.baseAddress.unsafelyUnwrapped + written, $0.count - written)
            }
            guard count > 0 else { return count }
            written += count
        }
        return 0
    }

    /// Makes a directory and its parents; an existing one is fine.
    static func makeDirectories(_ path: Text) {
        for index in path.bytes.indices.dropFirst() where path.bytes[index] == UInt8(ascii: "/") {
            _ = withCString(Text(path.bytes[..<index])) { sys_mkdir($0, 0o755) }
        }
        _ = withCString(path) { sys_mkdir($0, 0o755) }
    }
}
