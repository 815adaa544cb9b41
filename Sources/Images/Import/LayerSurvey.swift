/// What the headers of a layer say, all of it checked, before anything of it is written.
struct LayerSurvey: Equatable {
    /// What disappears from the layers below, in the order of the archive.
    private(set) var whiteouts: [LayerPath.Whiteout] = []
    /// Bytes of files.
    private(set) var bytes = 0
    /// Members that are no whiteouts.
    private(set) var entries = 0

    /// Reads all headers.
    ///
    /// - Throws: the reason, at the first entry that cannot be accepted or is beyond the limits.
    init(_ layer: some ByteSource, bytesMax: Int, entriesMax: Int) throws(ImportRefusal) {
        var reader = TarReader(layer)
        while let entry = try reader.next() {
            guard entries + whiteouts.count < entriesMax else { throw ImportRefusal("it has too many files") }
            let path = try LayerPath(entry.path)
            if let whiteout = try path.whiteout {
                whiteouts.append(whiteout)
                continue
            }
            try Self.check(entry, path)
            entries += 1
            guard entry.size <= bytesMax - bytes else {
                throw ImportRefusal("its files are larger than the limit: \(quoted(entry.path)) alone has \(entry.size) bytes")
            }
            bytes += entry.size
        }
    }

    private static func check(_ entry: TarEntry, _ path: LayerPath) throws(ImportRefusal) {
        guard !path.names.isEmpty || entry.kind == .directory else { throw ImportRefusal("its root is not a directory") }
        switch entry.kind {
        case .symbolicLink:
            guard !entry.link.isEmpty, entry.link.count <= ImportLimits.linkBytesMax, !entry.link.contains(0) else {
                throw ImportRefusal("the link \(quoted(entry.path)) has no target, or one that is too long")
            }
            guard !path.leadsOut(entry.link) else {
                throw ImportRefusal("the link \(quoted(entry.path)) to \(quoted(entry.link)) leads out of the root")
            }
        case .hardLink:
            guard !(try LayerPath(entry.link)).names.isEmpty else {
                throw ImportRefusal("the hard link \(quoted(entry.path)) has no target")
            }
        case .regular, .directory, .characterDevice, .blockDevice, .fifo: break
        }
    }
}
