// Compares the writes seen on a tap with a file of expected ones, the k-th with the k-th.
//
// `prepare` (one cycle) starts anew with the file expected_TAP_RUN.bin, or without comparing where
// there is none. It holds records {address 32, data DATA_BITS, mask MASK_BITS}, most significant
// byte first. A beat beyond the last record is a mismatch with `extra` set. Only nibbles of `mask`
// count.

module tap_checker #(
    parameter DATA_BITS = 256,
    parameter MASK_BITS = 64,
    parameter TAP = "tap"
) (
    input clk,
    input prepare,
    input [31:0] run,
    input [47:0] cycle,
    input valid,
    input [31:0] address,
    input [DATA_BITS-1:0] data,
    input [MASK_BITS-1:0] mask
);
    localparam RECORD_BITS = 32 + DATA_BITS + MASK_BITS;
    reg [RECORD_BITS-1:0] record;
    reg [31:0] beats, mismatches, first_beat, got_address, expected_address;
    reg [47:0] first_cycle;
    reg [DATA_BITS-1:0] got_data, expected_data, compared;
    reg [MASK_BITS-1:0] got_mask, expected_mask;
    reg extra;
    reg [8*64-1:0] name;
    integer file, got, i;

    initial file = 0;

    always @(posedge clk) if (prepare) begin
        beats <= 0;
        mismatches <= 0;
        first_beat <= 0;
        first_cycle <= 0;
        got_address <= 0;
        expected_address <= 0;
        got_data <= 0;
        expected_data <= 0;
        got_mask <= 0;
        expected_mask <= 0;
        extra <= 0;
        record = 0;
        if (file != 0) $fclose(file);
        $sformat(name, "expected_%0s_%0d.bin", TAP, run);
        file = $fopen(name, "rb");
    end else if (valid) begin
        beats <= beats + 32'd1;
        if (file != 0) begin
            got = $fread(record, file);
            for (i = 0; i < MASK_BITS; i = i + 1) compared[4*i +: 4] = {4{mask[i]}};
            if (got != RECORD_BITS / 8 || record[RECORD_BITS-1 -: 32] !== address
                || record[MASK_BITS-1:0] !== mask
                || ((record[MASK_BITS +: DATA_BITS] ^ data) & compared) !== {DATA_BITS{1'b0}})
            begin
                mismatches <= mismatches + 32'd1;
                if (mismatches == 0) begin
                    first_beat <= beats;
                    first_cycle <= cycle;
                    extra <= got != RECORD_BITS / 8;
                    got_address <= address;
                    got_data <= data;
                    got_mask <= mask;
                    expected_address <= record[RECORD_BITS-1 -: 32];
                    expected_data <= record[MASK_BITS +: DATA_BITS];
                    expected_mask <= record[MASK_BITS-1:0];
                end
            end
        end
    end
endmodule
