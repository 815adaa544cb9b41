internal import CLinux
internal import Linux

/// Makes the root file system of a planned image: verifies, decompresses and unpacks its layers in the private directory of a build.
struct LayerStack {
    let area: BuildArea
    let limits: ImportLimits
    let progress: BuildProgress

    /// The tree of files, in a directory that nobody else may enter: set-user-ID programs are among them.
    var root: String { "\(area.directory)/tree/root" }
    private var blob: String { "\(area.directory)/blob" }
    private var layer: String { "\(area.directory)/layer" }

    // MARK: - Blobs

    /// Makes a private copy of a part and checks its digest; what is used is what was checked, whatever happens to the original.
    func verified(_ part: UncheckedBlob) throws(ImportRefusal) -> FileBytes {
        try copy(part.bytes, to: blob)
        if let digest = part.digest { try check(blob, digest, part.what) }
        return try FileBytes(blob)
    }

    /// The digest of what `verified` made.
    func digest(_ verified: FileBytes) throws(ImportRefusal) -> ContentDigest {
        do throws(ImageError) {
            let hexadecimal = try area.digest(of: blob)
            if let digest = ContentDigest("sha256:\(hexadecimal)") { return digest }
        } catch { throw ImportRefusal(error) }
        throw ImportRefusal("its configuration cannot be hashed")
    }

    /// The archive itself where it is not compressed, else what it unpacks to.
    func uncompressed(_ archive: FileBytes) throws(ImportRefusal) -> FileBytes {
        let compression = LayerCompression(head: try archive.read(at: 0, count: min(8, archive.count)))
        guard compression != .none else { return archive }
        try copy(archive, to: blob)
        let output = "\(area.directory)/archive"
        try decompress(blob, compression, to: output, bytesMax: limits.unpackedBytesMax, "the archive")
        return try FileBytes(output)
    }

    private func copy(_ bytes: FileBytes, to path: String) throws(ImportRefusal) {
        let file = try ImportRefusal.of { () throws(SystemError) in
            try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC)
        }
        try CopyBuffer().copy(bytes, at: 0, count: bytes.count, to: file, path)
    }

    private func check(_ path: String, _ wanted: ContentDigest, _ what: String) throws(ImportRefusal) {
        let found: String
        do throws(ImageError) { found = try area.digest(of: path, wanted.algorithm) } catch { throw ImportRefusal(error) }
        guard found == wanted.hexadecimal else {
            throw ImportRefusal("\(what) has the digest \(wanted.algorithm.rawValue):\(found) instead of \(wanted)")
        }
    }

    /// Runs the program confined: it may do nothing but write its output, less than a bomb would, for a limited time.
    private func decompress(
        _ input: String, _ compression: LayerCompression, to output: String, bytesMax: Int, _ what: String
    ) throws(ImportRefusal) {
        // Headers and padding come on top of the files.
        let limit = bytesMax + bytesMax / 8 + (1 << 20)
        do throws(ImageError) {
            try area.runRecipe(
                "confined.sh", ["\(limit)", "\(ImportLimits.decompressionSecondsMax)"] + compression.command, input: input, output: output,
                isWatched: true)
        } catch {
            if let size = try? Files.size(output).bytes, size >= limit {
                throw ImportRefusal("\(what) unpacks to more than \(limit) bytes")
            }
            guard case .recipeFailed(_, let message, _) = error else { throw ImportRefusal(error) }
            throw ImportRefusal("\(what) cannot be decompressed (\(message))")
        }
    }

    // MARK: - Layers

    /// Unpacks all layers into `root`.
    func unpack(_ plan: ImagePlan) throws(ImportRefusal) -> LayerUnpacker.Summary {
        do throws(ImageError) {
            try Files.makeDirectory(root)
            // The image's own root, where no layer says otherwise; the directory above keeps others out.
            guard chmod(root, 0o755) == 0 else {
                throw .system(SystemError("set the permissions of", root, errno: Errno(rawValue: clinux_errno())))
            }
            var unpacker = LayerUnpacker(try RootTree(root), limits)
            for (index, layer) in plan.layers.enumerated() {
                progress(.step("unpacking layer \(index + 1) of \(plan.layers.count)"))
                do throws(ImportRefusal) { try unpack(layer, "layer \(index + 1)", with: &unpacker) } catch {
                    throw error.cause ?? .importRefused(reference: "", reason: error.reason)
                }
            }
            return unpacker.summary
        } catch {
            if case .importRefused(_, let reason) = error { throw ImportRefusal(reason) }
            throw ImportRefusal(error)
        }
    }

    private func unpack(_ stored: ImagePlan.Layer, _ what: String, with unpacker: inout LayerUnpacker) throws(ImportRefusal) {
        let bytes = try verified(stored.blob)
        let compression: LayerCompression
        if let named = stored.compression {
            compression = named
        } else {
            compression = LayerCompression(head: try bytes.read(at: 0, count: min(8, bytes.count)))
        }
        let path = compression == .none ? blob : layer
        if compression != .none { try decompress(blob, compression, to: layer, bytesMax: unpacker.remainingBytes, what) }
        try check(path, stored.digest, "\(what), uncompressed,")
        do throws(ImportRefusal) { try unpacker.apply(try FileBytes(path)) } catch {
            var refusal = ImportRefusal("\(what): \(error.reason)")
            refusal.cause = error.cause
            throw refusal
        }
        for used in [blob, layer] { try? Files.removeTree(used) }
    }

    // MARK: - What every root needs

    private static let mountPoints = ["dev", "proc", "sys", "run", "tmp"]
    private static let files = [
        ("hostname", "aurora\n"), ("hosts", "127.0.0.1 localhost\n127.0.1.1 aurora\n::1 localhost ip6-localhost ip6-loopback\n"),
        // The host's end of the group's private link; see the network of a group in the design notes.
        ("resolv.conf", "nameserver 172.30.0.1\n"),
    ]

    /// Adds what a guest mounts on and the files that engines provide; makes the directory that the program starts in.
    func complete(_ process: ProcessDefaults) throws(ImportRefusal) {
        let tree: RootTree
        do throws(ImageError) { tree = try RootTree(root) } catch { throw ImportRefusal(error) }
        for name in Self.mountPoints { _ = try directory(tree, [Array(name.utf8)], "mount point /\(name)") }
        let etc = try directory(tree, [Array("etc".utf8)], "/etc")
        for (name, text) in Self.files {
            try ImportRefusal.of { () throws(SystemError) in
                try RootTree.remove(Array(name.utf8), in: etc)
                let number = etc.rawValue
                let file = OwnedDescriptor(
                    adopting: Int32(
                        try systemCall("create", name) { clinux_openat(number, name, O_WRONLY | O_CREAT | O_EXCL, 0o644) }))
                let descriptor = file.rawValue
                let bytes = Array(text.utf8)
                try systemCall("write", name) { bytes.withUnsafeBytes { clinux_write(descriptor, $0.baseAddress, $0.count) } }
                try systemCall("set the permissions of", name) { clinux_fchmod(descriptor, 0o644) }
            }
        }
        guard !process.directory.isEmpty else { return }
        // Links on its way lead where they lead in the guest, as ".." does.
        let names = process.directory.utf8.split(separator: UInt8(ascii: "/")).map(Array.init)
        _ = try directory(tree, names, "the working directory")
    }

    private func directory(_ tree: RootTree, _ path: [[UInt8]], _ what: String) throws(ImportRefusal) -> OwnedDescriptor {
        do throws(SystemError) { return try tree.makeDirectories(path) } catch {
            var refusal = ImportRefusal("it has no room for \(what): \(error)")
            refusal.cause = ImportRefusal(error).cause
            throw refusal
        }
    }
}
