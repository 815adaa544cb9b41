internal import CLinux
import Linux

/// An ELF kernel (`vmlinux`): its loadable segments and what its Xen notes say (xen/include/public/elfnote.h).
///
/// The file is trusted by whoever installed it, not by this parser: every offset is checked.
public struct KernelImage: Sendable {
    /// A piece of the file and where it belongs in physical memory.
    public struct Segment: Sendable, Equatable {
        /// Physical address of the first byte.
        public let address: UInt64
        /// Offset in the file.
        public let offset: Int
        /// Bytes in the file.
        public let fileBytes: Int
        /// Bytes in memory; what the file lacks is zero.
        public let memoryBytes: UInt64
    }

    static let fileBytesMax = 1 << 30
    private static let headerBytes = 64
    private static let programHeaderBytes = 56
    private static let segmentsMax = 64
    private static let notesMax = 1024

    /// The open file, for mappings of its own; nil for a kernel that is only bytes.
    private let descriptor: SharedDescriptor?
    /// The file's bytes.
    let file: Mapping
    /// Length of the file in bytes.
    let fileBytes: Int
    /// The loadable segments.
    public let segments: [Segment]
    /// `e_entry`: where an ordinary (hvm) boot starts, physical.
    public let entry: UInt64
    /// XEN_ELFNOTE_ENTRY: where a Xen-PV boot starts, virtual.
    ///
    /// Nil without Xen notes.
    public let xenEntry: UInt64?
    /// XEN_ELFNOTE_VIRT_BASE: the virtual address of physical address zero.
    public let virtualBase: UInt64?
    /// XEN_ELFNOTE_INIT_P2M: where the kernel expects its first physical-to-machine table.
    public let initialP2M: UInt64?

    /// Opens and checks a kernel file.
    ///
    /// - Throws: `MachineError.kernel` naming the path and the problem.
    public init(path: String) throws(MachineError) {
        let file: Mapping
        let size: Int
        let shared: SharedDescriptor
        do throws(SystemError) {
            shared = SharedDescriptor(try OwnedDescriptor.open(path, O_RDONLY))
            size = Int(lseek(shared.rawValue, 0, SEEK_END))
            guard size >= KernelImage.headerBytes, size <= KernelImage.fileBytesMax else {
                throw SystemError("use", "\(path) of \(size) bytes as a kernel", errno: .invalidArgument)
            }
            file = try Mapping.file(readOnly: shared, count: size, what: path)
        } catch {
            throw .kernel("\(error). Run: aurora image prepare")
        }
        try self.init(file: file, fileBytes: size, name: path, descriptor: shared)
    }

    /// Checks kernel bytes that are mapped already.
    ///
    /// - Throws: `MachineError.kernel` naming `name` and the problem.
    init(file: Mapping, fileBytes: Int, name: String, descriptor: SharedDescriptor? = nil) throws(MachineError) {
        self.descriptor = descriptor
        self.file = file
        self.fileBytes = fileBytes
        let bytes = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(file.bytes)[..<fileBytes])
        let reader = ELFReader(bytes: bytes, name: name)
        guard try reader.integer(0, as: UInt32.self) == 0x464c_457f else { throw .kernel("\(name) is not an ELF file") }
        guard try reader.integer(4, as: UInt16.self) == 0x0102, try reader.integer(18, as: UInt16.self) == 62 else {
            throw .kernel("\(name) is not a little-endian x86-64 ELF file")
        }
        entry = try reader.integer(24, as: UInt64.self)
        let table = try reader.offset(32)
        let count = Int(try reader.integer(56, as: UInt16.self))
        guard count > 0, count <= KernelImage.segmentsMax else { throw .kernel("\(name) has \(count) program headers") }
        guard try reader.integer(54, as: UInt16.self) == KernelImage.programHeaderBytes else {
            throw .kernel("\(name) has program headers of an unknown size")
        }
        var segments: [Segment] = []
        var notes = XenNotes()
        for index in 0..<count {
            let header = table + index * KernelImage.programHeaderBytes
            let kind = try reader.integer(header, as: UInt32.self)
            let offset = try reader.offset(header + 8)
            let size = try reader.offset(header + 32)
            guard offset <= fileBytes, size <= fileBytes - offset else {
                throw .kernel("\(name) is truncated: segment \(index) ends beyond the file")
            }
            if kind == 1 { segments.append(try reader.segment(header, offset, size)) }
            if kind == 4 { try notes.read(reader, offset, size, limit: KernelImage.notesMax) }
        }
        guard !segments.isEmpty else { throw .kernel("\(name) has nothing to load") }
        self.segments = segments
        xenEntry = notes.entry
        virtualBase = notes.virtualBase
        initialP2M = notes.initialP2M
    }

    /// The first physical address the kernel occupies.
    public var start: UInt64 { segments.map(\.address).min() ?? 0 }
    /// The first physical address after the kernel.
    public var end: UInt64 { segments.map { $0.address + $0.memoryBytes }.max() ?? 0 }

    /// Puts the segments into a guest's fresh memory: whole pages as private mappings of the file, which cost nothing until
    /// they are touched and are shared by all guests until they are written; the rest by copying.
    ///
    /// - Throws: `MachineError.kernel` when the memory is too small.
    func load(into memory: GuestMemory) throws(MachineError) {
        for segment in segments {
            if let descriptor, segment.address % UInt64(pageBytes) == 0, segment.offset % pageBytes == 0 {
                try map(segment, of: descriptor, into: memory)
                continue
            }
            let bytes = UnsafeRawBufferPointer(
                rebasing: UnsafeRawBufferPointer(file.bytes)[segment.offset..<segment.offset + segment.fileBytes])
            do throws(GuestMemoryError) { try memory.write(GuestAddress(segment.address), bytes) } catch {
                throw .kernel("it does not fit: \(error)")
            }
        }
    }
}

extension KernelImage {
    private func map(_ segment: Segment, of descriptor: SharedDescriptor, into memory: GuestMemory) throws(MachineError) {
        let whole = segment.fileBytes / pageBytes * pageBytes
        do throws(SystemError) {
            let target = try host(memory, segment.address, segment.fileBytes)
            if whole > 0 {
                try Mapping.replace(target, count: whole, with: descriptor, offset: segment.offset)
                memory.markBacked(GuestAddress(segment.address), count: whole)
            }
            let rest = UnsafeRawBufferPointer(
                rebasing: UnsafeRawBufferPointer(file.bytes)[segment.offset + whole..<segment.offset + segment.fileBytes])
            if let start = rest.baseAddress { (target + whole).copyMemory(from: start, byteCount: rest.count) }
        } catch {
            throw .kernel("\(error)")
        }
    }

    private func host(_ memory: GuestMemory, _ address: UInt64, _ count: Int) throws(SystemError) -> UnsafeMutableRawPointer {
        do throws(GuestMemoryError) {
            return try memory.pointer(GuestAddress(address), count)
        } catch {
            throw SystemError("place the kernel in", "\(error)", errno: .noMemory)
        }
    }
}

/// Checked reads from an ELF file.
struct ELFReader {
    let bytes: UnsafeRawBufferPointer
    let name: String

    func integer<Value: FixedWidthInteger>(_ offset: Int, as type: Value.Type) throws(MachineError) -> Value {
        guard offset >= 0, offset <= bytes.count - MemoryLayout<Value>.size else {
            throw .kernel("\(name) is truncated at byte \(bytes.count)")
        }
        return Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }

    /// A 64-bit offset or size that must lie inside the file.
    func offset(_ position: Int) throws(MachineError) -> Int {
        let value = try integer(position, as: UInt64.self)
        guard value <= UInt64(bytes.count) else { throw .kernel("\(name) is truncated: it refers to byte \(value)") }
        return Int(value)
    }

    func segment(_ header: Int, _ offset: Int, _ size: Int) throws(MachineError) -> KernelImage.Segment {
        let address = try integer(header + 24, as: UInt64.self)
        let memory = try integer(header + 40, as: UInt64.self)
        guard memory >= UInt64(size), memory <= UInt64(KernelImage.fileBytesMax), address <= UInt64(KernelImage.fileBytesMax) else {
            throw .kernel("\(name) has a segment of \(memory) bytes at \(GuestAddress(address))")
        }
        return .init(address: address, offset: offset, fileBytes: size, memoryBytes: memory)
    }
}

/// What a kernel's Xen notes say.
private struct XenNotes {
    var entry: UInt64?
    var virtualBase: UInt64?
    var initialP2M: UInt64?

    mutating func read(_ reader: ELFReader, _ start: Int, _ size: Int, limit: Int) throws(MachineError) {
        var offset = start
        for _ in 0..<limit where offset + 12 <= start + size {
            let nameBytes = Int(try reader.integer(offset, as: UInt32.self))
            let dataBytes = Int(try reader.integer(offset + 4, as: UInt32.self))
            let kind = try reader.integer(offset + 8, as: UInt32.self)
            let name = offset + 12
            let data = name + (nameBytes + 3) / 4 * 4
            if nameBytes == 4, dataBytes == 8, try reader.integer(name, as: UInt32.self) == 0x006e_6558 {
                let value = try reader.integer(data, as: UInt64.self)
                if kind == 1 { entry = value }
                if kind == 3 { virtualBase = value }
                if kind == 15 { initialP2M = value }
            }
            offset = data + (dataBytes + 3) / 4 * 4
        }
    }
}
