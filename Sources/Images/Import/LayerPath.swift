/// A path of a layer, taken apart and checked: it cannot lead out of the root.
struct LayerPath: Equatable {
    /// The names from the root; none for the root itself.
    let names: [[UInt8]]

    /// What a name that begins so means: the layers below have something that this one has not.
    private static let whiteoutPrefix = Array(".wh.".utf8)
    private static let opaqueMarker = Array(".wh..wh..opq".utf8)
    private static let reservedPrefix = Array(".wh..wh.".utf8)

    /// Checks a path; one that starts with a slash starts at the image's root, as every engine has it.
    init(_ path: [UInt8]) throws(ImportRefusal) {
        guard !path.contains(0), path.count <= ImportLimits.pathBytesMax else {
            throw ImportRefusal("the path \(quoted(path)) has a zero byte or more than \(ImportLimits.pathBytesMax) bytes")
        }
        let parts = path.split(separator: UInt8(ascii: "/")).map(Array.init)
        guard !parts.contains(Array("..".utf8)) else { throw ImportRefusal("the path \(quoted(path)) leads upwards (..)") }
        names = parts.filter { $0 != [UInt8(ascii: ".")] }
        guard names.allSatisfy({ $0.count <= ImportLimits.nameBytesMax }), names.count <= ImportLimits.depthMax else {
            throw ImportRefusal("the path \(quoted(path)) is too deep, or a name in it too long")
        }
    }

    /// Where a whiteout applies.
    enum Whiteout: Equatable {
        /// This is removed from the layers below.
        case remove([[UInt8]])
        /// All in this directory is removed from the layers below.
        case empty([[UInt8]])
        /// A mark of a union file system of its own, without a meaning here.
        case ignore
    }

    /// What the path says of the layers below; nil for an ordinary path.
    var whiteout: Whiteout? {
        get throws(ImportRefusal) {
            guard let index = names.firstIndex(where: { $0.starts(with: Self.whiteoutPrefix) }) else { return nil }
            let above = Array(names[..<index])
            let name = names[index]
            if name == Self.opaqueMarker, index == names.count - 1 { return .empty(above) }
            // What such a directory has in it is the union file system's, too.
            if name.starts(with: Self.reservedPrefix) { return .ignore }
            let hidden = Array(name.dropFirst(Self.whiteoutPrefix.count))
            let dots = [[], Array(".".utf8), Array("..".utf8)]
            guard index == names.count - 1, !dots.contains(hidden) else {
                throw ImportRefusal("\(quoted(Array(names.joined(separator: [47])))) is no valid whiteout")
            }
            return .remove(above + [hidden])
        }
    }
}
