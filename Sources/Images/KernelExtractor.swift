/// Turns a bzImage into the ELF kernel that is inside it.
struct KernelExtractor {
    let area: BuildArea

    /// Unpacks the kernel of `source` into the file `target`.
    ///
    /// - Throws: `ImageError.bootImage` when the file is damaged or of an unknown kind.
    func extract(_ source: String, to target: String) throws(ImageError) {
        let bytes = try Files.read(source, lengthMax: BootImage.fileSizeMax)
        let image: BootImage
        do { image = try BootImage(parsing: bytes) } catch { throw .bootImage(path: source, error) }
        let payload = "\(area.directory)/payload"
        try Files.write(bytes[image.payload], to: payload)

        // The size limit stops a damaged payload from filling the disk; more than it says is an error anyway.
        let tool = image.compression.command
        do {
            try area.run(["prlimit", "--fsize=\(image.unpackedSize)"] + tool, input: payload, output: target)
        } catch {
            let error = area.explained(error)
            if case .diskFull = error { throw error }
            throw .bootImage(path: source, .decompressionFailed(tool: tool[0], reason: "\(error)"))
        }
        try Files.removeTree(payload)
        let size = try Files.size(target).bytes
        guard size == image.unpackedSize else {
            let reason = "it gave \(size) bytes instead of \(image.unpackedSize)"
            throw .bootImage(path: source, .decompressionFailed(tool: tool[0], reason: reason))
        }
        guard try Self.isKernelELF(target) else { throw .bootImage(path: source, .notAnELF) }
    }

    /// ELF, 64 bit, little-endian, for x86-64; the machine's loader checks the rest.
    private static func isKernelELF(_ path: String) throws(ImageError) -> Bool {
        let head = try Files.head(path, count: 20)
        return head.count == 20 && head.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1]) && head[18] == 62 && head[19] == 0
    }
}
