/// A cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst of Linux), composed in
/// memory for a boot: the agent and the kernel modules.
struct Initramfs {
    private(set) var bytes: [UInt8] = []
    private var nextInode: UInt32 = 1

    private enum Mode {
        static let directory: UInt32 = 0o040755
        static let file: UInt32 = 0o100644
        static let program: UInt32 = 0o100755
        static let characterDevice: UInt32 = 0o020600
    }

    /// An archive that expects about `capacity` bytes.
    init(capacity: Int) { bytes.reserveCapacity(capacity) }

    /// Adds a directory.
    ///
    /// Parents come first.
    mutating func addDirectory(_ path: String) { add(path, mode: Mode.directory, content: []) }

    /// Adds a file.
    mutating func addFile(_ path: String, _ content: some Collection<UInt8>, executable: Bool = false) {
        add(path, mode: executable ? Mode.program : Mode.file, content: content)
    }

    /// Adds a character device.
    mutating func addDevice(_ path: String, major: UInt32, minor: UInt32) {
        add(path, mode: Mode.characterDevice, content: [], device: (major, minor))
    }

    /// Ends the archive and returns its bytes.
    consuming func finished() -> [UInt8] {
        add("TRAILER!!!", mode: 0, content: [])
        return bytes
    }

    private mutating func add(_ path: String, mode: UInt32, content: some Collection<UInt8>, device: (UInt32, UInt32) = (0, 0)) {
        let name = Array(path.utf8) + [0]
        // magic, then: inode, mode, uid, gid, links, mtime, size, device, real device, name size, check
        let fields: [UInt32] = [
            nextInode, mode, 0, 0, 1, 0, UInt32(content.count), 0, 0, device.0, device.1, UInt32(name.count), 0,
        ]
        nextInode += 1
        bytes.append(contentsOf: "070701".utf8)
        for field in fields { appendHexadecimal(field) }
        bytes.append(contentsOf: name)
        pad()
        bytes.append(contentsOf: content)
        pad()
    }

    private mutating func appendHexadecimal(_ value: UInt32) {
        for shift in stride(from: UInt32(28), through: 0, by: -4) {
            let digit = UInt8(value >> shift & 15)
            bytes.append(digit < 10 ? 48 + digit : 55 + digit)
        }
    }

    private mutating func pad() { while bytes.count % 4 != 0 { bytes.append(0) } }
}
