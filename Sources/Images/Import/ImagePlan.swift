/// A part of an image whose contents have been checked against nothing yet.
struct UncheckedBlob {
    let bytes: FileBytes
    /// What its stored form must hash to; nil where only the uncompressed form has a digest.
    let digest: ContentDigest?
    let what: String
}

/// What is to be unpacked: the documents of a foreign image, read and checked.
struct ImagePlan {
    struct Layer {
        let blob: UncheckedBlob
        /// Nil: by its first bytes.
        let compression: LayerCompression?
        /// Of the uncompressed archive.
        let digest: ContentDigest
    }

    /// What names the image's exact contents: its manifest's digest, or its configuration's where there is no manifest.
    let digest: ContentDigest
    let created: String?
    let process: ProcessDefaults
    let layers: [Layer]
}

/// Finds an image in a place, and checks all that can be checked before its layers are read.
struct ImagePlanner {
    let place: any BlobPlace
    let limits: ImportLimits
    /// What the programs of an image may need.
    var processor = ProcessorLevel.host
    /// Makes a private copy of a part and checks its digest.
    let verified: (UncheckedBlob) throws(ImportRefusal) -> FileBytes
    /// The digest of bytes that nobody has named by it.
    let digest: (FileBytes) throws(ImportRefusal) -> ContentDigest

    private func part(_ path: String) throws(ImportRefusal) -> FileBytes {
        guard let part = try place.part(path) else { throw ImportRefusal("\(quoted(path)) is missing") }
        return part
    }

    /// A small part as it is: what nobody has a digest of.
    private func text(_ path: String) throws(ImportRefusal) -> [UInt8] {
        let part = try part(path)
        guard part.count <= ImportLimits.documentBytesMax else { throw ImportRefusal("\(quoted(path)) is longer than a document may be") }
        return try part.read(at: 0, count: part.count)
    }

    private func blob(_ descriptor: ImageDocuments.Descriptor, _ what: String) throws(ImportRefusal) -> UncheckedBlob {
        let path = "blobs/\(descriptor.digest.algorithm.rawValue)/\(descriptor.digest.hexadecimal)"
        guard let bytes = try place.part(path) else { throw ImportRefusal("\(what) is missing (\(descriptor.digest))") }
        guard bytes.count == descriptor.size else {
            throw ImportRefusal("\(what) has \(bytes.count) bytes instead of \(descriptor.size) (\(descriptor.digest))")
        }
        return UncheckedBlob(bytes: bytes, digest: descriptor.digest, what: what)
    }

    private func document<Document: Decodable>(
        _ type: Document.Type, _ descriptor: ImageDocuments.Descriptor, _ what: String
    ) throws(ImportRefusal) -> Document {
        guard (1...ImportLimits.documentBytesMax).contains(descriptor.size) else {
            throw ImportRefusal("\(what) would have \(descriptor.size) bytes")
        }
        let bytes = try verified(try blob(descriptor, what))
        return try ImageDocuments.decode(type, try bytes.read(at: 0, count: bytes.count), what)
    }

    // MARK: - OCI

    private static let indexTypes = [
        "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
    ]
    private static let manifestTypes = [
        "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
    ]
    private static let configurationTypes = [
        "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json",
    ]

    /// Finds the image of an OCI image layout.
    func layout(tag: String?) throws(ImportRefusal) -> ImagePlan {
        let layout = try ImageDocuments.decode(ImageDocuments.Layout.self, try text("oci-layout"), "oci-layout")
        guard layout.imageLayoutVersion.hasPrefix("1.") else {
            throw ImportRefusal("its layout has the version \(quoted(layout.imageLayoutVersion)); 1.0.0 is known")
        }
        let index = try ImageDocuments.decode(ImageDocuments.Index.self, try text("index.json"), "index.json")
        let chosen = try tagged(index.manifests, tag)
        var found: [(tag: String?, candidate: Candidate)] = []
        for descriptor in chosen {
            if let best = best(try candidates([descriptor], depth: 0, isOnly: chosen.count == 1)) { found.append((descriptor.tag, best)) }
        }
        guard let best = best(found.map(\.candidate)) else { throw ImportRefusal("it has no image for linux/amd64") }
        guard best.level.map({ $0 <= processor }) ?? false else {
            throw ImportRefusal("its image for linux/amd64 is for processors of another level, this one is \(processor)")
        }
        // Images of one name are variants of one image; of several without a name nobody knows which is meant.
        let equals = found.filter { $0.candidate.level == best.level }
        let isOne = Set(found.map(\.tag)).count == 1 && (found[0].tag != nil || Set(equals.map(\.candidate.descriptor.digest)).count == 1)
        guard isOne || Set(found.map(\.candidate.descriptor.digest)).count == 1 else {
            let tags = index.manifests.compactMap(\.tag).sorted()
            let shown = tags.isEmpty ? "but they have no tags" : tags.map { quoted($0) }.joined(separator: ", ")
            throw ImportRefusal("it has several images; name one of them: \(shown)")
        }
        return try plan(best.descriptor)
    }

    /// A manifest for this platform.
    private struct Candidate {
        let descriptor: ImageDocuments.Descriptor
        /// The level of its variant; nil for one that is not known.
        let level: ProcessorLevel?
    }

    /// What suits this processor best, the first of equals; what does not suit it only where nothing else is there.
    private func best(_ candidates: [Candidate]) -> Candidate? {
        func rank(_ candidate: Candidate) -> Int { candidate.level.map { $0 <= processor ? $0.rawValue : 0 } ?? 0 }
        return candidates.max { rank($0) < rank($1) }
    }

    private func tagged(_ all: [ImageDocuments.Descriptor], _ tag: String?) throws(ImportRefusal) -> [ImageDocuments.Descriptor] {
        guard let tag else { return all }
        let found = all.filter { $0.tag == tag || $0.longName == tag }
        guard found.isEmpty else { return found }
        let tags = all.compactMap(\.tag).sorted().map { quoted($0) }
        throw ImportRefusal("it has no image \(quoted(tag)); it has \(tags.isEmpty ? "none with a tag" : tags.joined(separator: ", "))")
    }

    /// The manifests for this platform; of each index within the index the best.
    private func candidates(
        _ descriptors: [ImageDocuments.Descriptor], depth: Int, isOnly: Bool
    ) throws(ImportRefusal) -> [Candidate] {
        guard depth <= ImportLimits.indexDepthMax else { throw ImportRefusal("it has too many indexes within indexes") }
        guard descriptors.count <= ImportLimits.listEntriesMax else { throw ImportRefusal("an index has too many entries") }
        var found: [Candidate] = []
        for descriptor in descriptors {
            if let platform = descriptor.platform, platform.os != "linux" || platform.architecture != "amd64" { continue }
            let type = descriptor.mediaType ?? ""
            if Self.indexTypes.contains(type) {
                let index = try document(ImageDocuments.Index.self, descriptor, "an index")
                let inner = try candidates(index.manifests, depth: depth + 1, isOnly: index.manifests.count == 1)
                if let best = best(inner) { found.append(best) }
            } else if Self.manifestTypes.contains(type) {
                found.append(Candidate(descriptor: descriptor, level: ProcessorLevel(variant: descriptor.platform?.variant)))
            } else if isOnly {
                throw ImportRefusal("its manifest is of a type that is not supported: \(quoted(type))")
            }
        }
        return found
    }

    private func plan(_ descriptor: ImageDocuments.Descriptor) throws(ImportRefusal) -> ImagePlan {
        let manifest = try document(ImageDocuments.Manifest.self, descriptor, "the manifest")
        guard manifest.schemaVersion == 2 else { throw ImportRefusal("its manifest has the version \(manifest.schemaVersion); 2 is known") }
        guard let type = manifest.config.mediaType, Self.configurationTypes.contains(type) else {
            throw ImportRefusal("it is no image: its configuration is of the type \(quoted(manifest.config.mediaType ?? ""))")
        }
        let configuration = try configuration(manifest.config)
        guard manifest.layers.count == configuration.rootfs.layers.count else {
            throw ImportRefusal("its manifest has \(manifest.layers.count) layers, its configuration \(configuration.rootfs.layers.count)")
        }
        var layers: [ImagePlan.Layer] = []
        for (index, layer) in manifest.layers.enumerated() {
            let compression = try LayerCompression(mediaType: layer.mediaType ?? "")
            layers.append(
                ImagePlan.Layer(
                    blob: try blob(layer, "layer \(index + 1)"), compression: compression, digest: configuration.rootfs.layers[index]))
        }
        return try finished(descriptor.digest, configuration, layers)
    }

    private func configuration(_ descriptor: ImageDocuments.Descriptor) throws(ImportRefusal) -> ImageDocuments.Configuration {
        try document(ImageDocuments.Configuration.self, descriptor, "the configuration")
    }

    private func finished(
        _ digest: ContentDigest, _ configuration: ImageDocuments.Configuration, _ layers: [ImagePlan.Layer]
    ) throws(ImportRefusal) -> ImagePlan {
        guard configuration.os ?? "linux" == "linux", configuration.architecture ?? "amd64" == "amd64" else {
            throw ImportRefusal("it is for \(quoted("\(configuration.os ?? "")/\(configuration.architecture ?? "")")), not for linux/amd64")
        }
        if let level = ProcessorLevel(variant: configuration.variant), level > processor {
            throw ImportRefusal("it is for processors of the level \(level), this one is \(processor)")
        }
        guard configuration.rootfs.type == "layers" else { throw ImportRefusal("its files are not stored as layers") }
        guard !layers.isEmpty else { throw ImportRefusal("it has no layers") }
        guard layers.count <= limits.layersMax else {
            throw ImportRefusal("it has \(layers.count) layers; \(limits.layersMax) are allowed")
        }
        let process = try configuration.config.map { foreign throws(ImportRefusal) in try ProcessDefaults(foreign) }
        return ImagePlan(digest: digest, created: configuration.created, process: process ?? ProcessDefaults(), layers: layers)
    }

    // MARK: - docker save

    /// What a reference may be called in full: Docker leaves out the registry, namespace and tag that are usual.
    private static func longNames(_ reference: String) -> [String] {
        let last = reference.split(separator: "/").last ?? ""
        let tagged = last.contains(":") || last.contains("@") ? reference : "\(reference):latest"
        return [reference, tagged, "docker.io/\(tagged)", "docker.io/library/\(tagged)"]
    }

    /// The digest that a file's name says it has: "HEX.json", "sha256:HEX" or "blobs/sha256/HEX"; nil for any other name.
    private static func digest(named path: String) -> ContentDigest? {
        let file = path.split(separator: "/").last ?? ""
        let name = file.hasSuffix(".json") ? file.dropLast(5) : file
        return ContentDigest(String(name)) ?? ContentDigest("sha256:\(name)")
    }

    /// Finds the image of an archive that `docker save` wrote, or one of the programs that write the same.
    ///
    /// The configuration is the file that the manifest names, whatever its name is.
    func savedImage(reference: String?) throws(ImportRefusal) -> ImagePlan {
        let images = try ImageDocuments.decode([ImageDocuments.SavedImage].self, try text("manifest.json"), "manifest.json")
        let names = images.flatMap { $0.tags ?? [] }.sorted().map { quoted($0) }.joined(separator: ", ")
        let found = images.filter { image in
            guard let reference else { return true }
            let wanted = Self.longNames(reference)
            return (image.tags ?? []).contains { wanted.contains($0) }
        }
        guard let image = found.first else { throw ImportRefusal("it has no image \(quoted(reference ?? "")); it has \(names)") }
        guard found.count == 1 else { throw ImportRefusal("it has several images; name one of them: \(names)") }
        let blob = UncheckedBlob(bytes: try part(image.config), digest: Self.digest(named: image.config), what: "the configuration")
        guard blob.bytes.count <= ImportLimits.documentBytesMax else {
            throw ImportRefusal("its configuration is longer than a document may be")
        }
        let bytes = try verified(blob)
        let name: ContentDigest
        if let known = blob.digest { name = known } else { name = try digest(bytes) }
        let configuration = try ImageDocuments.decode(
            ImageDocuments.Configuration.self, try bytes.read(at: 0, count: bytes.count), "the configuration")
        guard image.layers.count == configuration.rootfs.layers.count else {
            throw ImportRefusal("its manifest has \(image.layers.count) layers, its configuration \(configuration.rootfs.layers.count)")
        }
        var layers: [ImagePlan.Layer] = []
        for (index, path) in image.layers.enumerated() {
            let blob = UncheckedBlob(bytes: try part(path), digest: nil, what: "layer \(index + 1)")
            layers.append(ImagePlan.Layer(blob: blob, compression: nil, digest: configuration.rootfs.layers[index]))
        }
        return try finished(name, configuration, layers)
    }
}
