/// The name of an image: `[a-z0-9][a-z0-9._-]{0,62}`, which is also a safe file name.
public struct ImageName: Hashable, Sendable, CustomStringConvertible {
    /// The longest name, in characters.
    public static let lengthMax = 63
    /// The image a group uses when none is named.
    public static let base = ImageName(unchecked: "base")

    /// The name's text.
    public let description: String

    private init(unchecked text: String) { description = text }

    /// Checks a name.
    ///
    /// - Throws: `ImageError.invalidName`.
    public init(_ text: String) throws(ImageError) {
        let bytes = text.utf8
        guard let first = bytes.first, bytes.count <= Self.lengthMax, Self.isAlphanumeric(first),
            bytes.allSatisfy({ Self.isAlphanumeric($0) || ".-_".utf8.contains($0) })
        else { throw .invalidName(text) }
        description = text
    }

    static func isAlphanumeric(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
}

/// What to install into an image: a Debian package, optionally of an exact version (`NAME=VERSION`).
public struct PackageRequest: Hashable, Sendable, CustomStringConvertible {
    /// The longest request, in characters.
    public static let lengthMax = 256
    /// The request as apt understands it.
    public let description: String

    /// Checks a request; Debian policy sections 5.6.1 and 5.6.12 say what names and versions are made of.
    ///
    /// - Throws: `ImageError.invalidPackage`.
    public init(_ text: String) throws(ImageError) {
        let parts = text.utf8.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
        guard text.utf8.count <= Self.lengthMax, let name = parts.first, let first = name.first, name.count >= 2,
            ImageName.isAlphanumeric(first), name.allSatisfy({ ImageName.isAlphanumeric($0) || "+.-".utf8.contains($0) })
        else { throw .invalidPackage(text) }
        if parts.count == 2 {
            guard let first = parts[1].first, ImageName.isAlphanumeric(first),
                parts[1].allSatisfy({ ImageName.isAlphanumeric($0 | 0x20) || ".+~:-".utf8.contains($0) })
            else { throw .invalidPackage(text) }
        }
        description = text
    }

    /// Checks a list separated by commas, in order and each once.
    ///
    /// - Throws: `ImageError.invalidPackage`.
    public static func list(_ text: String) throws(ImageError) -> [PackageRequest] {
        var result: [PackageRequest] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let request = try PackageRequest(String(part))
            if !result.contains(request) { result.append(request) }
        }
        return result
    }
}

/// A Python package as pip understands it, for example `numpy` or `awslambdaric==3.0.0`.
public struct PipRequest: Hashable, Sendable, CustomStringConvertible {
    /// The longest request, in characters.
    public static let lengthMax = 256
    /// The request as pip understands it.
    public let description: String

    /// Checks a request: a name, and an exact version behind `==`.
    ///
    /// - Throws: `ImageError.invalidPackage`.
    public init(_ text: String) throws(ImageError) {
        let parts = text.utf8.split(separator: UInt8(ascii: "="), omittingEmptySubsequences: false)
        guard text.utf8.count <= Self.lengthMax, parts.count == 1 || (parts.count == 3 && parts[1].isEmpty),
            [parts[0], parts[parts.count - 1]].allSatisfy({ PipRequest.isWord($0) })
        else { throw .invalidPackage(text) }
        description = text
    }

    /// Letters, digits and a few signs, with a letter or a digit first: no option of pip, and no path.
    private static func isWord(_ word: Substring.UTF8View) -> Bool {
        guard let first = word.first, isLetterOrDigit(first) else { return false }
        return word.allSatisfy { isLetterOrDigit($0) || "._-+!".utf8.contains($0) }
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool { ImageName.isAlphanumeric(byte) || (65...90).contains(byte) }

    /// Checks a list separated by commas, in order and each once.
    ///
    /// - Throws: `ImageError.invalidPackage`.
    public static func list(_ text: String) throws(ImageError) -> [PipRequest] {
        var result: [PipRequest] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let request = try PipRequest(String(part))
            if !result.contains(request) { result.append(request) }
        }
        return result
    }
}

/// The virtual size of an image's root file, in bytes; the file is sparse and takes only what is in it.
public struct ImageSize: Hashable, Sendable {
    /// The size in bytes, a multiple of 4096.
    public let bytes: Int

    /// What an image gets when no size is named: 4 GiB.
    public static let standard = ImageSize(unchecked: 4 << 30)
    static let minimum = 512 << 20
    static let maximum = 1 << 40
    static let minimumText = "512M"
    static let maximumText = "1T"
    private static let block = 4096

    private init(unchecked bytes: Int) { self.bytes = bytes }

    /// Reads "4G", "800M", "4294967296"; units are powers of 1024.
    ///
    /// - Throws: `ImageError.invalidSize` for anything else and for sizes out of range.
    public init(_ text: String) throws(ImageError) {
        let units: [Character: Int] = ["K": 10, "M": 20, "G": 30, "T": 40]
        var digits = Substring(text)
        var shift = 0
        if let unit = digits.last, let known = units[Character(unit.uppercased())] {
            digits.removeLast()
            shift = known
        }
        guard digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let number = Int(digits),
            case let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << shift), !overflow,
            (Self.minimum...Self.maximum).contains(bytes)
        else { throw .invalidSize(text) }
        self.bytes = bytes / Self.block * Self.block
    }
}
