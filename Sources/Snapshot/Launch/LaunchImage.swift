public import AuroraVMM
internal import CLinux
internal import Linux

/// A launch image, opened: its files stay open, whatever becomes of the directory.
public final class LaunchImage: Sendable {
    static let stateName = "state"
    static let memoryName = "memory"
    static let diskName = "disk"

    /// The directory.
    public let directory: String
    /// What it is.
    public let manifest: LaunchManifest
    /// The memory's pages.
    let memory: SharedDescriptor
    /// The root disk's blocks.
    let disk: SharedDescriptor
    /// Which pages of memory `memory` has; nil for all, each at its place.
    let memoryRuns: LaunchRuns?
    /// Likewise for the disk.
    let diskRuns: LaunchRuns?

    /// Opens the files of a directory and checks their lengths, not yet what is in them.
    ///
    /// - Throws: `LaunchError` naming the file.
    public init(directory: String) throws(LaunchError) {
        self.directory = directory
        let path = "\(directory)/\(LaunchManifest.fileName)"
        let manifest = try LaunchManifest(try LaunchImage.read(path, bytesMax: LaunchManifest.bytesMax), path: path)
        self.manifest = manifest
        memory = try LaunchImage.open(directory, LaunchImage.memoryName, manifest)
        disk = try LaunchImage.open(directory, LaunchImage.diskName, manifest)
        guard manifest.base != nil else {
            (memoryRuns, diskRuns) = (nil, nil)
            guard manifest.files[LaunchImage.memoryName]?.bytes == manifest.pages * pageBytes,
                manifest.files[LaunchImage.diskName]?.bytes == manifest.diskBytes
            else { throw .damaged(path, reason: "its files have other sizes than memory and disk") }
            return
        }
        memoryRuns = try LaunchImage.runs(directory, LaunchImage.memoryName, manifest, pages: manifest.pages)
        diskRuns = try LaunchImage.runs(directory, LaunchImage.diskName, manifest, pages: manifest.diskBytes / pageBytes)
    }

    /// The machine's state, as it encoded itself, checked.
    ///
    /// - Throws: `LaunchError`.
    public func state() throws(LaunchError) -> [UInt8] {
        try LaunchImage.checked(directory, LaunchImage.stateName, manifest)
    }

    /// The decoded state.
    ///
    /// - Throws: `LaunchError`.
    public func machineState() throws(LaunchError) -> MachineState {
        do throws(MachineError) { return try MachineState(encoded: try stateBytes()) } catch {
            throw .damaged("\(directory)/\(LaunchImage.stateName)", reason: "\(error)")
        }
    }

    private func stateBytes() throws(MachineError) -> [UInt8] {
        do throws(LaunchError) { return try state() } catch { throw .state("\(error)") }
    }

    /// Reads every file and compares it with its checksum.
    ///
    /// - Throws: `LaunchError.damaged` naming the file.
    public func verify() throws(LaunchError) {
        _ = try state()
        for name in [LaunchImage.memoryName, LaunchImage.diskName] {
            let path = "\(directory)/\(name)"
            guard let file = manifest.files[name] else { throw .damaged(path, reason: "nothing is known of it") }
            let descriptor: OwnedDescriptor
            do throws(SystemError) { descriptor = try .open(path, O_RDONLY) } catch { throw .missing(path) }
            guard try LaunchChecksum.text(ofFile: descriptor, bytes: file.bytes, path: path) == file.checksum else {
                throw .damaged(path, reason: "its checksum is wrong")
            }
        }
    }

    /// Has the kernel forget what it has read of the files: for measurements from the disk.
    public func dropCaches() {
        for file in [memory, disk] { _ = clinux_forget_cached(file.rawValue) }
    }

    // MARK: - Reading

    private static func open(_ directory: String, _ name: String, _ manifest: LaunchManifest) throws(LaunchError) -> SharedDescriptor {
        let path = "\(directory)/\(name)"
        guard let file = manifest.files[name] else { throw .damaged(path, reason: "nothing is known of it") }
        let size = clinux_file_bytes(path)
        guard size >= 0 else { throw .missing(path) }
        guard size == file.bytes else { throw .damaged(path, reason: "it has \(size) bytes instead of \(file.bytes)") }
        do throws(SystemError) { return SharedDescriptor(try .open(path, O_RDONLY)) } catch { throw .system(error) }
    }

    private static func runs(
        _ directory: String, _ name: String, _ manifest: LaunchManifest, pages: Int
    ) throws(LaunchError) -> LaunchRuns {
        let path = "\(directory)/\(name).runs"
        guard let runs = LaunchRuns(encoded: try checked(directory, "\(name).runs", manifest), pages: pages) else {
            throw .damaged(path, reason: "it is no list of runs")
        }
        guard manifest.files[name]?.bytes == runs.pageCount * pageBytes else { throw .damaged(path, reason: "\(name) has another size") }
        return runs
    }

    private static func checked(_ directory: String, _ name: String, _ manifest: LaunchManifest) throws(LaunchError) -> [UInt8] {
        let path = "\(directory)/\(name)"
        guard let file = manifest.files[name], file.bytes <= 16 << 20 else { throw .damaged(path, reason: "nothing is known of it") }
        let bytes = try read(path, bytesMax: file.bytes)
        var sum = LaunchChecksum()
        bytes.withUnsafeBytes { sum.add(run: $0, at: 0) }
        guard bytes.count == file.bytes, sum.text == file.checksum else { throw .damaged(path, reason: "its checksum is wrong") }
        return bytes
    }

    static func read(_ path: String, bytesMax: Int) throws(LaunchError) -> [UInt8] {
        let file: OwnedDescriptor
        do throws(SystemError) { file = try .open(path, O_RDONLY) } catch {
            if error.errno == .noEntry { throw .missing(path) }
            throw .system(error)
        }
        let number = file.rawValue
        let size = Int(lseek(number, 0, SEEK_END))
        guard size >= 0, size <= bytesMax else { throw .damaged(path, reason: "it has \(size) bytes") }
        var bytes = [UInt8](repeating: 0, count: size)
        var done = 0
        while done < size {
            let got = try launchCall("read", path) {
                bytes.withUnsafeMutableBytes { clinux_pread(number, $0.baseAddress.map { $0 + done }, size - done, Int64(done)) }
            }
            guard got > 0 else { throw .damaged(path, reason: "it ends at byte \(done)") }
            done += got
        }
        return bytes
    }
}
