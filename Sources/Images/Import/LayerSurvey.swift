/// What the headers of a layer say, all of it checked, before anything of it is written.
///
/// It keeps sums only: what a layer has in it is read again when it is used, so that no layer takes memory by its length.
struct LayerSurvey: Equatable {
    /// Members that say what disappears from the layers below.
    private(set) var whiteouts = 0
    /// Bytes of files.
    private(set) var bytes = 0
    /// Bytes of extended headers, which count like files: a layer may consist of them.
    private(set) var headerBytes = 0
    /// Members that are no whiteouts.
    private(set) var entries = 0

    /// Reads all headers.
    ///
    /// - Throws: the reason, at the first entry that cannot be accepted or is beyond the limits.
    init(_ layer: some ByteSource, bytesMax: Int, entriesMax: Int) throws(ImportRefusal) {
        var reader = TarReader(layer)
        while let entry = try reader.next() {
            guard entries + whiteouts < entriesMax else { throw ImportRefusal("it has too many files") }
            headerBytes = reader.extensionBytes
            guard headerBytes <= bytesMax - bytes else {
                throw ImportRefusal("its files and extended headers are larger than the limit of \(bytesMax) bytes")
            }
            let path = try LayerPath(entry.path)
            if try path.whiteout != nil {
                whiteouts += 1
                continue
            }
            try Self.check(entry, path)
            entries += 1
            guard entry.size <= bytesMax - bytes - headerBytes else {
                throw ImportRefusal("its files are larger than the limit: \(quoted(entry.path)) alone has \(entry.size) bytes")
            }
            bytes += entry.size
        }
    }

    /// Where a symbolic link leads does not matter: it is kept as it is, and nobody follows it out of the root.
    private static func check(_ entry: TarEntry, _ path: LayerPath) throws(ImportRefusal) {
        guard !path.names.isEmpty || entry.kind == .directory else { throw ImportRefusal("its root is not a directory") }
        switch entry.kind {
        case .symbolicLink:
            guard !entry.link.isEmpty, entry.link.count <= ImportLimits.linkBytesMax, !entry.link.contains(0) else {
                throw ImportRefusal("the link \(quoted(entry.path)) has no target, or one that is too long")
            }
        case .hardLink:
            guard !(try LayerPath(entry.link)).names.isEmpty else {
                throw ImportRefusal("the hard link \(quoted(entry.path)) has no target")
            }
        case .regular, .directory, .characterDevice, .blockDevice, .fifo: break
        }
    }
}
