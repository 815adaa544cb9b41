internal import CLinux
internal import Linux

/// Importing images of other engines.
extension ImageStore {
    /// Imports a foreign image, unless the very same is there already under the name.
    ///
    /// - Parameter size: of the root file system; nil for one that leaves room to write.
    /// - Throws: `ImageError`; a former image of the name, if any, is then still in place, and nothing else was left.
    public func importImage(
        _ reference: ImageReference, as name: ImageName, size: ImageSize? = nil, limits: ImportLimits = ImportLimits(),
        progress: @escaping BuildProgress
    ) throws(ImageError) -> Image {
        guard name != .base else { throw .reservedName(name.description) }
        guard geteuid() == 0 else { throw .ownersNeeded }
        let area = try buildArea(name, progress)
        defer { area.abandon() }
        do throws(ImportRefusal) {
            let stack = LayerStack(area: area, limits: limits, progress: progress)
            progress(.step("reading \(reference)"))
            let plan = try plan(reference, stack, limits)
            let inputs = recipes.digest(.imported, parameters: [plan.digest.description, size.map { "\($0.bytes)" } ?? ""])
            if let image = try? open(name), image.manifest.inputDigest == inputs { return image }
            let summary = try stack.unpack(plan)
            try stack.complete(plan.process)
            do throws(ImageError) {
                try makeRoot(area, stack, plan, summary, size: size)
                return try publish(area, name: name, inputs: inputs, process: plan.process, source: source(reference, plan, summary))
            } catch { throw ImportRefusal(error) }
        } catch {
            if let cause = error.cause { throw area.explained(cause) }
            area.forget()
            throw .importRefused(reference: reference.description, reason: error.reason)
        }
    }

    private func plan(_ reference: ImageReference, _ stack: LayerStack, _ limits: ImportLimits) throws(ImportRefusal) -> ImagePlan {
        guard Files.exists(reference.path) else { throw ImportRefusal("\(quoted(reference.path)) does not exist") }
        let place: any BlobPlace
        if reference.transport == .oci {
            place = BlobDirectory(path: reference.path)
        } else {
            place = try BlobArchive(try stack.uncompressed(try FileBytes(reference.path)))
        }
        let planner = ImagePlanner(place: place, limits: limits, verified: stack.verified, digest: stack.digest)
        return reference.transport == .dockerArchive
            ? try planner.savedImage(reference: reference.tag) : try planner.layout(tag: reference.tag)
    }

    private func source(_ reference: ImageReference, _ plan: ImagePlan, _ summary: LayerUnpacker.Summary) -> ImageSource {
        var source = ImageSource(
            kind: reference.transport.rawValue, reference: reference.description, digest: plan.digest.description,
            layers: plan.layers.map(\.digest.description), created: plan.created)
        if summary.skippedAttributes > 0 { source.notes.append("\(summary.skippedAttributes) extended attributes were left out") }
        if summary.skippedDevices > 0 {
            source.notes.append("\(summary.skippedDevices) devices were left out: this user may not make them")
        }
        return source
    }

    /// Blocks of a file, and what ext4 needs for its tables and journal.
    private static let overheadBytes = 256 << 20
    private static let entryBytes = 8192
    private static let roundBytes = 1 << 20
    /// What mke2fs reckons for one file.
    private static let bytesPerInode = 16_384

    private func makeRoot(
        _ area: BuildArea, _ stack: LayerStack, _ plan: ImagePlan, _ summary: LayerUnpacker.Summary, size: ImageSize?
    ) throws(ImageError) {
        // Twice what is in it, so that a guest can write; the file is sparse.
        let needed = summary.bytes + summary.entries * Self.entryBytes + Self.overheadBytes
        let bytes = max(size?.bytes ?? max(ImageSize.standard.bytes, 2 * needed / Self.roundBytes * Self.roundBytes), ImageSize.minimum)
        let inodes = max(bytes / Self.bytesPerInode, 2 * summary.entries)
        let hexadecimal = Array(plan.digest.hexadecimal)
        let uuid = [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(hexadecimal[$0]) }.joined(separator: "-")
        let isTime =
            plan.created.map { $0.utf8.count <= 64 && $0.utf8.allSatisfy { (45...58).contains($0) || "TZ+".utf8.contains($0) } } ?? false
        stack.progress(.step("making the root file system"))
        try area.runRecipe(
            "import/make-root.sh",
            [stack.root, "\(area.result)/root.ext4", "\(bytes)", "\(inodes)", uuid, isTime ? plan.created ?? "" : ""],
            isWatched: true)
    }
}
