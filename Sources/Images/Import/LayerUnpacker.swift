internal import CLinux
internal import Linux

/// Applies the layers of an image to a tree, one after the other.
struct LayerUnpacker {
    /// What was seen or left out, for the user.
    struct Summary: Equatable {
        var entries = 0
        var bytes = 0
        /// Extended attributes that Aurora does not keep, or that the file system under the build has no room for.
        var skippedAttributes = 0
        /// Devices that this user may not make.
        var skippedDevices = 0
    }

    private(set) var summary = Summary()
    private let tree: RootTree
    private let limits: ImportLimits
    private let buffer = CopyBuffer()

    init(_ tree: RootTree, _ limits: ImportLimits) {
        self.tree = tree
        self.limits = limits
    }

    /// What files may still take.
    var remainingBytes: Int { max(0, limits.unpackedBytesMax - summary.bytes) }

    /// Applies a layer, an uncompressed tar archive.
    ///
    /// The archive is read several times, and nothing of an entry is kept: first every header is checked and the sizes are added up; then
    /// the whiteouts are applied, which concern the layers below only, wherever in the archive they stand; then the rest is written; last
    /// come the directories' times, which change when something is put into them.
    mutating func apply(_ layer: FileBytes) throws(ImportRefusal) {
        let survey = try LayerSurvey(layer, bytesMax: remainingBytes, entriesMax: limits.entriesMax - summary.entries)
        var directories = 0
        if survey.whiteouts > 0 {
            try forEach(layer) { (_, path) throws(ImportRefusal) in
                guard let whiteout = try path.whiteout else { return }
                try ImportRefusal.of { () throws(SystemError) in try apply(whiteout) }
            }
        }
        var reader = TarReader(layer)
        while let entry = try reader.next() {
            let path = try LayerPath(entry.path)
            guard try path.whiteout == nil else { continue }
            if entry.kind == .directory { directories += 1 }
            try write(entry, path.names, layer)
        }
        if directories > 0 {
            try forEach(layer) { (entry, path) throws(ImportRefusal) in
                guard entry.kind == .directory, try path.whiteout == nil else { return }
                try ImportRefusal.of { () throws(SystemError) in
                    guard let directory = try tree.directory(path.names) else { return }
                    try Self.setTime(Array(".".utf8), in: directory, entry)
                }
            }
        }
        summary.entries += survey.entries
        summary.bytes += survey.bytes + survey.headerBytes
    }

    /// Reads the archive from its beginning.
    private func forEach(
        _ layer: FileBytes, _ body: (TarEntry, LayerPath) throws(ImportRefusal) -> Void
    ) throws(ImportRefusal) {
        var reader = TarReader(layer)
        while let entry = try reader.next() { try body(entry, try LayerPath(entry.path)) }
    }

    // MARK: - Whiteouts

    private func apply(_ whiteout: LayerPath.Whiteout) throws(SystemError) {
        switch whiteout {
        case .ignore: return
        case .empty(let path):
            guard let directory = try tree.directory(path) else { return }
            try RootTree.empty(directory)
        case .remove(let path):
            guard let name = path.last, let directory = try tree.directory(path.dropLast()) else { return }
            try RootTree.remove(name, in: directory)
        }
    }

    // MARK: - Entries

    private mutating func write(_ entry: TarEntry, _ path: [[UInt8]], _ layer: FileBytes) throws(ImportRefusal) {
        guard let name = path.last else {
            return try ImportRefusal.of { () throws(SystemError) in
                guard let root = try tree.directory([]) else { return }
                try finish(root, entry)
            }
        }
        let parent = try ImportRefusal.of { () throws(SystemError) in try tree.makeDirectories(path.dropLast()) }
        switch entry.kind {
        case .regular: try writeFile(entry, name, parent, layer)
        case .directory: try ImportRefusal.of { () throws(SystemError) in try makeDirectory(entry, name, parent) }
        case .hardLink:
            let target = try LayerPath(entry.link).names
            try ImportRefusal.of { () throws(SystemError) in try makeHardLink(to: target, name, parent) }
        case .symbolicLink, .fifo, .characterDevice, .blockDevice:
            try ImportRefusal.of { () throws(SystemError) in try makeSpecial(entry, name, parent) }
        }
    }

    private mutating func writeFile(
        _ entry: TarEntry, _ name: [UInt8], _ parent: borrowing OwnedDescriptor, _ layer: FileBytes
    ) throws(ImportRefusal) {
        let number = parent.rawValue
        let file = try ImportRefusal.of { () throws(SystemError) in
            try RootTree.remove(name, in: parent)
            return OwnedDescriptor(
                adopting: Int32(
                    try RootTree.call("create", name) { clinux_openat(number, $0, O_WRONLY | O_CREAT | O_EXCL, 0o600) }))
        }
        let shown = RootTree.shown(entry.path)
        if let map = entry.sparse {
            var offset = entry.offset
            for piece in map.pieces {
                try buffer.copy(layer, at: offset, count: piece.count, to: file, at: piece.place, shown)
                offset += piece.count
            }
        } else {
            try buffer.copy(layer, at: entry.offset, count: entry.size, to: file, shown)
        }
        // What ends with a hole has been written to its last piece only.
        try ImportRefusal.of { () throws(SystemError) in
            let descriptor = file.rawValue
            try systemCall("write", shown) { ftruncate(descriptor, off_t(entry.size)) == 0 ? 0 : -Int(clinux_errno()) }
        }
        try ImportRefusal.of { () throws(SystemError) in
            try finish(file, entry)
            try Self.setTime(name, in: parent, entry)
        }
    }

    private mutating func makeDirectory(_ entry: TarEntry, _ name: [UInt8], _ parent: borrowing OwnedDescriptor) throws(SystemError) {
        let number = parent.rawValue
        let mode = try RootTree.mode(name, in: parent)
        if mode.map(RootTree.isDirectory) != true {
            try RootTree.remove(name, in: parent)
            try RootTree.call("create directory", name) { clinux_mkdirat(number, $0, 0o700) }
        }
        try finish(try RootTree.open(name, in: parent), entry)
    }

    private func makeHardLink(to target: [[UInt8]], _ name: [UInt8], _ parent: borrowing OwnedDescriptor) throws(SystemError) {
        guard let last = target.last, let directory = try tree.directory(target.dropLast()),
            let mode = try RootTree.mode(last, in: directory)
        else { throw SystemError("link \(RootTree.shown(name)) to its target", errno: .noEntry) }
        guard !RootTree.isDirectory(mode) else {
            throw SystemError("link \(RootTree.shown(name)) to its target", errno: Errno(rawValue: EISDIR))
        }
        let (from, to) = (directory.rawValue, parent.rawValue)
        // A link to itself would remove its own target.
        if try RootTree.isSame(last, directory, name, parent) { return }
        try RootTree.remove(name, in: parent)
        try RootTree.call("link", name) { new in
            RootTree.withPath(last) { clinux_linkat(from, $0, to, new) }
        }
    }

    private mutating func makeSpecial(_ entry: TarEntry, _ name: [UInt8], _ parent: borrowing OwnedDescriptor) throws(SystemError) {
        let number = parent.rawValue
        try RootTree.remove(name, in: parent)
        if entry.kind == .symbolicLink {
            try RootTree.call("create link", name) { new in RootTree.withPath(entry.link) { clinux_symlinkat($0, number, new) } }
        } else {
            let type = entry.kind == .fifo ? S_IFIFO : entry.kind == .characterDevice ? S_IFCHR : S_IFBLK
            do throws(SystemError) {
                try RootTree.call("create device", name) {
                    clinux_mknodat(number, $0, UInt32(type) | 0o600, entry.deviceMajor, entry.deviceMinor)
                }
            } catch {
                // The guest has a /dev of its own; what an ordinary user cannot make is counted, not fatal.
                guard error.errno == .notPermitted, entry.kind != .fifo else { throw error }
                summary.skippedDevices += 1
                return
            }
        }
        try RootTree.call("set the owner of", name) { clinux_lchownat(number, $0, entry.user, entry.group) }
        if entry.kind != .symbolicLink {
            try RootTree.call("set the permissions of", name) { clinux_fchmodat(number, $0, entry.mode) }
        }
        try Self.setTime(name, in: parent, entry)
    }

    // MARK: - Owners, permissions, attributes, times

    /// In this order: a change of owner takes set-user-ID bits and capabilities away.
    private mutating func finish(_ file: borrowing OwnedDescriptor, _ entry: TarEntry) throws(SystemError) {
        let number = file.rawValue
        let shown = RootTree.shown(entry.path)
        try systemCall("set the owner of", shown) { clinux_fchown(number, entry.user, entry.group) }
        try systemCall("set the permissions of", shown) { clinux_fchmod(number, entry.mode) }
        summary.skippedAttributes += entry.attributes.skipped
        for attribute in entry.attributes.kept {
            let result = RootTree.withPath(attribute.name) { name in
                attribute.value.withUnsafeBytes { clinux_fsetxattr(number, name, $0.baseAddress, $0.count) }
            }
            if [-Int(EOPNOTSUPP), -Int(EPERM), -Int(ENOSPC)].contains(result) {
                summary.skippedAttributes += 1
            } else {
                try systemCall("set an attribute of", shown) { result }
            }
        }
    }

    private static func setTime(_ name: [UInt8], in directory: borrowing OwnedDescriptor, _ entry: TarEntry) throws(SystemError) {
        let number = directory.rawValue
        try RootTree.call("set the time of", name) { clinux_set_modified(number, $0, entry.modified, entry.nanoseconds) }
    }
}
