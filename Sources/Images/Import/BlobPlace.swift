/// Where the parts of an image are: a directory, or a tar archive that is read in place.
protocol BlobPlace {
    /// A part by its path; nil when there is none.
    func part(_ path: String) throws(ImportRefusal) -> FileBytes?
}

/// A directory of the OCI image layout.
struct BlobDirectory: BlobPlace {
    let path: String

    func part(_ path: String) throws(ImportRefusal) -> FileBytes? {
        let file = "\(self.path)/\(path)"
        return Files.exists(file) ? try FileBytes(file) : nil
    }
}

/// An uncompressed tar archive whose members are found by their paths.
struct BlobArchive: BlobPlace {
    private enum Member {
        case contents(offset: Int, count: Int)
        case link([[UInt8]])
    }

    private let file: FileBytes
    private var members: [[[UInt8]]: Member] = [:]

    /// Reads the archive's headers.
    init(_ file: FileBytes) throws(ImportRefusal) {
        self.file = file
        var reader = TarReader(file)
        while let entry = try reader.next() {
            guard members.count < ImportLimits.membersMax else { throw ImportRefusal("the archive has too many members") }
            let path = try LayerPath(entry.path)
            switch entry.kind {
            case .regular:
                guard entry.sparse == nil else { throw ImportRefusal("the archive stores \(quoted(entry.path)) with holes") }
                members[path.names] = .contents(offset: entry.offset, count: entry.size)
            case .hardLink: members[path.names] = .link(try LayerPath(entry.link).names)
            case .symbolicLink: members[path.names] = .link(Self.target(of: path, entry.link))
            case .directory: break
            case .characterDevice, .blockDevice, .fifo: throw ImportRefusal("the archive has a device in it: \(quoted(entry.path))")
            }
        }
    }

    /// Docker writes a layer it has written before as a link `../ID/layer.tar`; above the archive's root is the root.
    private static func target(of path: LayerPath, _ link: [UInt8]) -> [[UInt8]] {
        var names = link.first == UInt8(ascii: "/") ? [] : Array(path.names.dropLast())
        for part in link.split(separator: UInt8(ascii: "/")).map(Array.init) {
            if part == Array("..".utf8) { _ = names.popLast() } else if part != Array(".".utf8) { names.append(part) }
        }
        return names
    }

    func part(_ path: String) throws(ImportRefusal) -> FileBytes? {
        var names = try LayerPath(Array(path.utf8)).names
        for _ in 0...ImportLimits.memberLinksMax {
            switch members[names] {
            case nil: return nil
            case .contents(let offset, let count): return file.part(at: offset, count: count)
            case .link(let target): names = target
            }
        }
        throw ImportRefusal("the archive's links lead in a circle: \(quoted(path))")
    }
}
