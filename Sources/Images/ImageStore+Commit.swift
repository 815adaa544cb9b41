internal import CLinux
public import Linux

/// Making images of disks that Aurora itself has written.
extension ImageStore {
    /// Makes an image of a root disk, replacing a former one of the name in one step.
    ///
    /// The file system's journal is replayed and its structure checked before the image is published. Whoever wrote the disk is not
    /// trusted: this process never looks into it.
    /// - Parameters:
    ///   - bytes: the size of the disk.
    ///   - process: the program to run when a command says nothing else.
    ///   - fill: writes the disk's contents to a descriptor of a new, sparse file of that size.
    ///   - check: replays the journal of the file of this path and checks its structure, inside a machine.
    /// - Throws: `ImageError`, or what `fill` or `check` throws; a former image of the name is then still in place, and nothing else was
    ///   left.
    public func commit(
        _ name: ImageName, bytes: Int, source: ImageSource, process: ProcessDefaults, progress: @escaping BuildProgress,
        fill: (borrowing OwnedDescriptor) throws -> Void, check: (String) throws -> Void
    ) throws -> Image {
        guard name != .base else { throw ImageError.reservedName(name.description) }
        guard bytes > 0, bytes <= ImageSize.maximum else { throw ImageError.invalidSize("\(bytes)") }
        let area = try buildArea(name, progress)
        defer { area.abandon() }
        let path = "\(area.result)/root.ext4"
        let file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_EXCL)
        let number = file.rawValue
        try systemCall("make room for", path) { ftruncate(number, off_t(bytes)) == 0 ? 0 : -Int(clinux_errno()) }
        progress(.step("copying the root disk"))
        try fill(file)
        progress(.step("checking its file system"))
        try check(path)
        return try publish(
            area, name: name, inputs: recipes.digest(.imported, parameters: [source.digest, source.reference]), process: process,
            source: source)
    }
}
