/// Where the stored pieces of a sparse file belong; between them are holes.
///
/// GNU tar writes it in four forms: in the header itself and blocks behind it (type S), and as pax records or in front of the contents
/// (versions 0.0, 0.1 and 1.0). Invariants: pieces are in order, do not overlap, and end within the file.
struct SparseMap: Equatable {
    struct Piece: Equatable {
        let place: Int
        let count: Int
    }

    let pieces: [Piece]
    /// The size of the file with its holes.
    let size: Int
    /// Bytes that are stored.
    let stored: Int

    /// Checks pieces: pairs of a place and a count.
    init(_ numbers: [Int], size: Int, _ path: [UInt8]) throws(ImportRefusal) {
        var pieces: [Piece] = []
        var (end, stored) = (0, 0)
        guard numbers.count.isMultiple(of: 2), size >= 0 else { throw Self.damaged(path) }
        for index in stride(from: 0, to: numbers.count, by: 2) {
            let piece = Piece(place: numbers[index], count: numbers[index + 1])
            guard piece.place >= end, piece.count >= 0, piece.place <= size, piece.count <= size - piece.place else {
                throw Self.damaged(path)
            }
            end = piece.place + piece.count
            stored += piece.count
            if piece.count > 0 { pieces.append(piece) }
        }
        (self.pieces, self.size, self.stored) = (pieces, size, stored)
    }

    static func damaged(_ path: [UInt8]) -> ImportRefusal { ImportRefusal("\(quoted(path)) has a map of its holes that is damaged") }

    /// "PLACE,COUNT,PLACE,COUNT": version 0.1, and what the records of version 0.0 are put together to.
    static func numbers(_ list: [UInt8], _ path: [UInt8]) throws(ImportRefusal) -> [Int] {
        var numbers: [Int] = []
        for text in list.split(separator: UInt8(ascii: ",")) {
            guard let number = Decimal.unsigned(text), numbers.count < 2 * ImportLimits.piecesMax else { throw damaged(path) }
            numbers.append(number)
        }
        return numbers
    }

    /// Version 1.0: in front of the contents the count of pieces and their numbers, a line each, filled up to a block.
    ///
    /// - Returns: the numbers, and the bytes that they take.
    static func numbers(
        inFrontOf source: some ByteSource, at start: Int, count: Int, _ path: [UInt8]
    ) throws(ImportRefusal) -> (numbers: [Int], bytes: Int) {
        var numbers: [Int] = []
        var wanted = 1
        var line: [UInt8] = []
        var bytes = 0
        while numbers.count < wanted {
            guard count - bytes >= TarHeader.blockBytes else { throw damaged(path) }
            for byte in try source.read(at: start + bytes, count: TarHeader.blockBytes) where numbers.count < wanted {
                guard byte == UInt8(ascii: "\n") else {
                    line.append(byte)
                    continue
                }
                guard let number = Decimal.unsigned(line) else { throw damaged(path) }
                line = []
                numbers.append(number)
                guard numbers.count == 1 else { continue }
                guard number <= ImportLimits.piecesMax else { throw damaged(path) }
                wanted = 1 + 2 * number
            }
            guard line.count <= TarHeader.blockBytes else { throw damaged(path) }
            bytes += TarHeader.blockBytes
        }
        return (Array(numbers.dropFirst()), bytes)
    }
}

/// What a header of GNU's type S says of the holes, before there were pax headers.
struct OldSparseHeader {
    private static let pieceBytes = 24
    private static let piecesInHeader = 4
    private static let piecesInBlock = 21

    private(set) var numbers: [Int]
    /// Whether a block with more pieces follows.
    private(set) var continues: Bool
    let size: Int

    /// Reads the fields of a header.
    init(_ block: [UInt8]) throws(ImportRefusal) {
        numbers = try Self.pieces(block, at: 386, count: Self.piecesInHeader)
        continues = block[482] != 0
        size = Int(clamping: try TarHeader.number(block[483..<495], "size"))
    }

    /// Reads the next block of pieces.
    mutating func take(_ block: [UInt8]) throws(ImportRefusal) {
        guard numbers.count < 2 * ImportLimits.piecesMax else { throw ImportRefusal("a sparse file has too many pieces") }
        numbers += try Self.pieces(block, at: 0, count: Self.piecesInBlock)
        continues = block[504] != 0
    }

    /// Pieces that are not in use have zeros.
    private static func pieces(_ block: [UInt8], at start: Int, count: Int) throws(ImportRefusal) -> [Int] {
        var numbers: [Int] = []
        for index in 0..<count {
            let piece = start + index * pieceBytes
            guard block[piece] != 0 else { break }
            numbers.append(Int(clamping: try TarHeader.number(block[piece..<piece + 12], "place")))
            numbers.append(Int(clamping: try TarHeader.number(block[piece + 12..<piece + 24], "count")))
        }
        return numbers
    }
}
