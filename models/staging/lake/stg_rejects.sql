with

source as (

    select * from {{ source('lake', 'rejects') }}

),

renamed as (

    select
        source,
        source_file,
        line_number,
        byte_offset,
        reason,
        raw_text
    from source

)

select * from renamed
