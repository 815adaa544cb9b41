import AuroraVMM
import CLinux
import Groups
import Linux
import Snapshot
import Store

/// The disks of a group's machine: files as they are, and volumes that belong to its checkpoints.
struct MachineDisks {
    /// A volume with its map.
    struct Volume {
        let map: UInt16
        let volume: CheckpointedVolume
        /// Whether a new history must be given what the volume began with: the root disk's image is in the store already.
        let isImported: Bool
    }

    /// In the order of vda, vdb, and so on.
    private(set) var configurations: [BlockDeviceConfiguration] = []
    private(set) var volumes: [Volume] = []
    /// Whether a disk is a file of the host, which no checkpoint holds.
    private(set) var hasFiles = false
    /// Bytes of each disk.
    private(set) var byteCounts: [Int] = []

    /// Opens the disks of a guest that boots.
    init(_ disks: [GroupMachineSpecification.Disk], imagePath: String, directory: String) throws {
        for disk in disks {
            switch disk {
            case .file(let path, let readOnly): addFile(path, readOnly)
            case .volume(let map, let file, let readOnly):
                let pages = try FilePages(file ?? imagePath)
                try add(map, readOnly, pages, pages.pageCount, bytes: pages.pageCount * pageBytes, directory, isImported: file != nil)
            }
        }
    }

    /// Opens the disks of a guest that goes on from a checkpoint.
    init(_ disks: [GroupMachineSpecification.Disk], at reader: CheckpointReader, _ context: GroupContext, directory: String) throws {
        guard disks.count == context.diskBytes.count else {
            throw GroupError(
                .badState, "The checkpoint has \(context.diskBytes.count) disks, the group's configuration \(disks.count)",
                remedy: "Restore it with --as NEW: the new group takes its configuration from the checkpoint.")
        }
        for (disk, bytes) in zip(disks, context.diskBytes) {
            switch disk {
            case .file(let path, let readOnly): addFile(path, readOnly)
            case .volume(let map, _, let readOnly):
                guard bytes > 0, Int64(bytes) <= CheckpointedVolume.bytesMax else {
                    throw GroupError(.badState, "The checkpoint is damaged: disk \(map) would have \(bytes) bytes")
                }
                try add(map, readOnly, CheckpointPages(reader, map: map), bytes / pageBytes, bytes: bytes, directory, isImported: true)
            }
        }
    }

    private mutating func addFile(_ path: String, _ readOnly: Bool) {
        configurations.append(BlockDeviceConfiguration(path: path, isReadOnly: readOnly))
        byteCounts.append(max(0, Int(clinux_file_bytes(path))))
        hasFiles = true
    }

    private mutating func add(
        _ map: UInt16, _ readOnly: Bool, _ base: any PageSource, _ baseBlocks: Int, bytes: Int, _ directory: String, isImported: Bool
    ) throws {
        let volume = try CheckpointedVolume(
            byteCount: Int64(bytes), isReadOnly: readOnly, base: base, baseBlocks: baseBlocks, scratch: try ScratchFile(in: directory))
        volumes.append(Volume(map: map, volume: volume, isImported: isImported))
        configurations.append(BlockDeviceConfiguration(backend: volume))
        byteCounts.append(bytes)
    }
}

/// The pages of a file on the host: what a disk begins with that is in no checkpoint yet.
final class FilePages: PageSource {
    private let file: SharedDescriptor
    private let path: String
    /// Whole pages and the last, which may be part of one.
    let pageCount: Int
    private let byteCount: Int

    init(_ path: String) throws {
        self.path = path
        file = SharedDescriptor(try OwnedDescriptor.open(path, O_RDONLY))
        byteCount = max(0, Int(clinux_file_bytes(path)))
        pageCount = (byteCount + pageBytes - 1) / pageBytes
        guard pageCount > 0 else { throw GroupError(.host, "The disk \(path) is empty") }
    }

    func has(_ page: Int) -> Bool {
        guard page >= 0, page < pageCount else { return false }
        let data = lseek(file.rawValue, off_t(page * pageBytes), SEEK_DATA)
        // A file system without holes answers that everything is data.
        return data < 0 ? clinux_errno() != ENXIO : Int(data) < (page + 1) * pageBytes
    }

    func read(page: Int, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        var done = 0
        while done < count * pageBytes {
            let offset = page * pageBytes + done
            let got = clinux_pread(file.rawValue, buffer.baseAddress.map { $0 + done }, count * pageBytes - done, Int64(offset))
            if got == -Int(EINTR) { continue }
            guard got >= 0 else {
                throw PageSourceError(page: page, reason: "\(path): \(Errno(rawValue: Int32(truncatingIfNeeded: -got)))")
            }
            if got == 0 {
                guard offset >= byteCount else { throw PageSourceError(page: page, reason: "\(path) has become shorter") }
                UnsafeMutableRawBufferPointer(rebasing: buffer[done..<(count * pageBytes)]).initializeMemory(as: UInt8.self, repeating: 0)
                return
            }
            done += got
        }
    }
}
