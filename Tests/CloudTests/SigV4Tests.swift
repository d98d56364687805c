// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCCloud
import VPCModel
import VPCTransport

@Suite struct SigV4Tests {
  private static let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

  @Test(arguments: SigV4Suite.vectors)
  func publishedVector(_ vector: SigV4Suite.Vector) {
    var request = HTTPRequest(
      method: vector.method, url: "https://example.amazonaws.com\(vector.target)", body: Array(vector.body.utf8))
    for (name, value) in vector.headers { request.headers.append(name, value) }
    let credentials = Credentials(
      accessKeyID: "AKIDEXAMPLE", secretAccessKey: Self.secret, sessionToken: vector.token, source: "suite")
    SigV4Signer(region: "us-east-1", service: "service")
      .sign(&request, with: credentials, at: UTCTime(seconds: 1_440_938_160))
    let expected =
      "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
      + "SignedHeaders=\(vector.signedHeaders), Signature=\(vector.signature)"
    #expect(request.headers["Authorization"] == expected, "\(vector.name)")
    #expect(request.headers["X-Amz-Date"] == "20150830T123600Z")
  }

  @Test func agreesWithBotocore() {
    for vector in BotocoreVectors.signatures {
      var request = HTTPRequest(
        method: .post, url: vector.url,
        headers: ["Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "User-Agent": "x/1"],
        body: Array(vector.body.utf8))
      let credentials = Credentials(
        accessKeyID: "AKIDEXAMPLE", secretAccessKey: Self.secret, sessionToken: vector.token, source: "botocore")
      let signer = SigV4Signer(region: vector.region, service: vector.service)
      signer.sign(&request, with: credentials, at: UTCTime(seconds: vector.seconds))
      #expect(request.headers["Authorization"] == vector.authorization, "\(vector.url)")
      // Signing again, as a retry does, gives the same signature.
      signer.sign(&request, with: credentials, at: UTCTime(seconds: vector.seconds))
      #expect(request.headers["Authorization"] == vector.authorization)
      #expect(request.headers.fields.filter { $0.name == "X-Amz-Date" }.count == 1)
    }
  }

  @Test func percentEncoding() {
    #expect(PercentEncoding.encode("aZ09-._~ /+%é") == "aZ09-._~%20%2F%2B%25%C3%A9")
    #expect(PercentEncoding.decode("%C3%A9%2f%zz%4") == "é/%zz%4")
  }
}

@Suite struct UTCTimeTests {
  @Test(arguments: [
    (0, "1970-01-01T00:00:00Z", "19700101T000000Z"),
    (951_782_399, "2000-02-28T23:59:59Z", "20000228T235959Z"),
    (951_782_400, "2000-02-29T00:00:00Z", "20000229T000000Z"),
    (1_440_938_160, "2015-08-30T12:36:00Z", "20150830T123600Z"),
    (4_102_444_800, "2100-01-01T00:00:00Z", "21000101T000000Z"),
    (-1, "1969-12-31T23:59:59Z", "19691231T235959Z"),
  ])
  func text(_ seconds: Int64, _ extended: String, _ basic: String) {
    let time = UTCTime(seconds: seconds)
    #expect(time.description == extended)
    #expect(time.basic == basic)
    #expect(UTCTime(iso8601: extended) == time)
  }

  @Test func everyDayThereAndBack() {
    for day in stride(from: Int64(0), to: 60_000, by: 1) {
      let time = UTCTime(seconds: day * 86_400 + 43_200)
      #expect(UTCTime(iso8601: time.description) == time)
    }
  }

  @Test(arguments: [
    ("2015-08-30T12:36:00.123456Z", 1_440_938_160), ("2015-08-30T14:36:00+02:00", 1_440_938_160),
    ("2015-08-30T05:06:00-07:30", 1_440_938_160),
  ])
  func otherForms(_ text: String, _ seconds: Int64) {
    #expect(UTCTime(iso8601: text)?.seconds == seconds)
  }

  @Test(arguments: [
    "", "2015-08-30", "2015-02-29T00:00:00Z", "2015-13-01T00:00:00Z", "2015-08-30T24:00:00Z",
    "2015-08-30T12:36:00", "2015-08-30T12:36:00+99:00", "20x5-08-30T12:36:00Z", "2015-08-30T12:36:00Zjunk",
  ])
  func refused(_ text: String) {
    #expect(UTCTime(iso8601: text) == nil)
  }

  @Test func httpDate() {
    #expect(UTCTime(httpDate: "Sun, 06 Nov 1994 08:49:37 GMT")?.description == "1994-11-06T08:49:37Z")
    for bad in ["", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"] {
      #expect(UTCTime(httpDate: bad) == nil)
    }
  }
}
